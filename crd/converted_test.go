package crd

import "testing"

func TestConvertedIsBounded(t *testing.T) {
	var c converted
	a, b := &webhook{}, &webhook{}
	of := func(w *webhook, n byte) conversion { return conversion{by: w, to: "v2", sum: [32]byte{n}} }
	piece := make([]byte, convertedSize/8-overhead)
	c.put(of(b, 0), []byte("b"))
	for n := range byte(12) {
		c.put(of(a, n), piece)
		c.get(of(a, 0)) // in use, so it stays
		if c.size > convertedSize {
			t.Fatalf("%d bytes", c.size)
		}
	}
	if c.get(of(a, 0)) == nil || c.get(of(a, 11)) == nil || c.get(of(a, 1)) != nil || c.get(of(b, 0)) != nil {
		t.Errorf("%d are kept", len(c.all))
	}
	c.put(of(b, 1), []byte("b"))
	c.put(of(b, 2), append(piece, make([]byte, 2*overhead)...)) // too large for any
	c.forget(a)
	if string(c.get(of(b, 1))) != "b" || c.get(of(b, 2)) != nil || len(c.all) != 1 || c.size != 1+overhead || c.order.Len() != 1 {
		t.Errorf("%d kept, %d bytes", len(c.all), c.size)
	}
}
