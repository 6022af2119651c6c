package broker

// SyncsAlways says whether the running server syncs each message before it
// acknowledges it.
func (b *Broker) SyncsAlways() bool {
	c := b.srv.JetStreamConfig()
	return c != nil && c.SyncAlways
}
