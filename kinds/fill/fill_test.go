package fill

import "testing"

func TestFillLeavesWhatIsSet(t *testing.T) {
	var unset *int32
	zero := new(int32)
	Ptr(&unset, 3)
	Ptr(&zero, 3)
	if *unset != 3 || *zero != 0 {
		t.Errorf("Ptr: got %d and %d, want 3 and 0", *unset, *zero)
	}
	s, u := "a", ""
	Zero(&s, "b")
	Zero(&u, "b")
	if s != "a" || u != "b" {
		t.Errorf("Zero: got %q and %q, want a and b", s, u)
	}
}

func TestPtrSharesNothing(t *testing.T) {
	def := int32(3)
	var a, b *int32
	Ptr(&a, def)
	Ptr(&b, def)
	*a = 4
	if *b != 3 || def != 3 {
		t.Error("two filled fields share one value")
	}
}
