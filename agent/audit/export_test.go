package audit

// For tests of how lines are read and SQL is masked.
var (
	Decode  = decode
	MaskSQL = maskSQL
)

// Seal is the line of an entry, without its newline.
func Seal(e *Entry) []byte {
	line := seal(nil, e)
	return line[:len(line)-1]
}

// SealBody gives any text the end of a line, as if it had been written as one.
func SealBody(text []byte, prev string) []byte {
	body := append(text[:len(text):len(text)], prevKey+prev+`"`...)
	return append(body, hashKey+sum(body)+`"}`...)
}

// MaxLine is longer than any line.
const MaxLine = maxLine
