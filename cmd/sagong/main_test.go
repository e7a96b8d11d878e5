package main

import (
	"testing"

	"early"
)

// Packages start in the order of their paths; if that ever changes, every
// process of the binary would spend 25 ms on a catalogue of English texts.
func TestTranslationsAreNotLoadedAtStart(t *testing.T) {
	if early.Late != nil {
		t.Error(early.Late)
	}
}
