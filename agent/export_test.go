package agent

// Waiting is how many writes wait for the writer of a database.
func (m *Master) Waiting(db string) int {
	w, err := m.writer(db)
	if err != nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}
