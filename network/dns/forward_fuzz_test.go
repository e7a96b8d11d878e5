package dns

import "testing"

// A resolver, or somebody who pretends to be one, answers what it likes.
func FuzzMatches(f *testing.F) {
	query := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x03org\x00\x00\x01\x00\x01")
	answer := append([]byte(nil), query...)
	answer[2] |= 0x80
	f.Add(answer, query)
	f.Add([]byte("\x12\x34\x80\x02\x00\x00\x00\x00\x00\x00\x00\x00"), query)
	f.Add(query, query)
	f.Fuzz(func(t *testing.T, answer, query []byte) {
		if len(query) >= headerSize && matches(answer, query) && (answer[2]&0x80 == 0 || string(answer[:2]) != string(query[:2])) {
			t.Errorf("%x answers %x", answer, query)
		}
	})
}
