package wal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

func someRecords(n, size int) []Record {
	var rs []Record
	for i := range n {
		rs = append(rs, Record{Key: fmt.Sprintf("/r/%06d", i), Value: bytes.Repeat([]byte{byte(i)}, size), Create: int64(i + 1), Mod: int64(2*i + 1), Expires: int64(i % 3)})
	}
	return rs
}

// based makes records refer to two bases in turn, every third to none.
func based(rs []Record) []Record {
	bases := []*Base{{Class: "/r/", Text: []byte("one")}, {Class: "/r/0", Text: []byte("two")}}
	for i := range rs {
		if i%3 > 0 {
			rs[i].Base = bases[i%3-1]
		}
	}
	return rs
}

func snapshotOf(t testing.TB, st State, rs []Record) []byte {
	var b bytes.Buffer
	if err := WriteSnapshot(&b, st, slices.Values(rs)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(data []byte) (State, []Record, error) {
	var rs []Record
	st, err := ReadSnapshot(bytes.NewReader(data), func(State) error { return nil }, func(r Record) error {
		r.Value = bytes.Clone(r.Value)
		rs = append(rs, r)
		return nil
	})
	return st, rs, err
}

func TestSnapshotRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 3, 2000} {
		want := based(someRecords(n, 500)) // four blocks and more
		st := State{Rev: 5000, Compacted: 4000, Index: 7}
		got, rs, err := readAll(snapshotOf(t, st, want))
		if err != nil || got != st || len(rs) != n || n > 0 && !reflect.DeepEqual(rs, want) {
			t.Fatalf("%d records: %+v, %d records, %v", n, got, len(rs), err)
		}
	}
}

// Snapshots written before there were bases can be read.
func TestSnapshotWithoutBases(t *testing.T) {
	want := someRecords(3, 20)
	var b bytes.Buffer
	s := &snapshotWriter{w: bufio.NewWriter(&b), block: []byte{blockWhole}}
	for _, r := range want {
		s.block = appendBytes(s.block, r.Key)
		for _, n := range []int64{r.Create, r.Mod, r.Expires} {
			s.block = binary.AppendUvarint(s.block, uint64(n))
		}
		s.block = appendBytes(s.block, r.Value)
	}
	records := s.block
	st := State{Rev: 50, Compacted: 40, Index: 7}
	s.w.WriteString(snapshotMagic)
	s.block = nil
	s.state(blockHead, st)
	s.flush(s.block)
	s.flush(records)
	sum := s.sum
	s.state(blockFoot, st)
	s.block = binary.AppendUvarint(s.block, uint64(len(want)))
	s.flush(binary.LittleEndian.AppendUint32(s.block, sum))
	s.w.Flush()
	got, rs, err := readAll(b.Bytes())
	if err != nil || got != st || !reflect.DeepEqual(rs, want) {
		t.Fatalf("%+v, %d records, %v", got, len(rs), err)
	}
}

// Every flipped bit and every cut is noticed.
func TestSnapshotDamage(t *testing.T) {
	good := snapshotOf(t, State{Rev: 50, Compacted: 40, Index: 7}, based(someRecords(5, 20)))
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, _, err := readAll(bad); !errors.Is(err, ErrSnapshot) {
				t.Errorf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
		if _, _, err := readAll(good[:i]); !errors.Is(err, ErrSnapshot) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, _, err := readAll(append(bytes.Clone(good), 0)); !errors.Is(err, ErrSnapshot) {
		t.Errorf("one byte more: %v", err)
	}
	unsorted := someRecords(3, 5)
	slices.Reverse(unsorted)
	if _, _, err := readAll(snapshotOf(t, State{Rev: 50}, unsorted)); !errors.Is(err, ErrSnapshot) {
		t.Errorf("records out of order: %v", err)
	}
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(snapshotOf(f, State{Rev: 50, Compacted: 40, Index: 7}, someRecords(5, 20)))
	f.Add(snapshotOf(f, State{Rev: 50, Compacted: 40, Index: 7}, based(someRecords(5, 20))))
	f.Add(snapshotOf(f, State{Rev: 1}, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, rs, err := readAll(data)
		if err != nil {
			return
		}
		if st2, rs2, err := readAll(snapshotOf(t, st, rs)); err != nil || st2 != st || len(rs2) != len(rs) {
			t.Fatalf("written again: %+v, %d records, %v; want %+v, %d", st2, len(rs2), err, st, len(rs))
		}
	})
}
