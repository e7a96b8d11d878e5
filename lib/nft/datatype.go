package nft

// Type is the layout of a set's key or data. The numbers are those of the nft
// tool, so that it can print the sets.
type Type struct {
	id     uint32
	len    uint32
	order  uint32
	fields []uint32
}

// Byte orders as the nft tool names them.
const (
	orderHost    = 1
	orderNetwork = 2
)

// The basic types.
var (
	Addr4    = Type{7, 4, orderNetwork, []uint32{4}}
	Protocol = Type{12, 1, orderNetwork, []uint32{1}}
	Port     = Type{13, 2, orderNetwork, []uint32{2}}
	Mark     = Type{19, 4, orderHost, []uint32{4}}
	Verdict  = Type{verdictType, 16, orderHost, []uint32{16}}
)

// Concat is the concatenation of types: each takes whole four-byte registers.
func Concat(types ...Type) Type {
	t := Type{order: orderNetwork}
	for _, u := range types {
		t.id = t.id<<6 | u.id
		t.len += (u.len + 3) &^ 3
		t.fields = append(t.fields, u.fields...)
	}
	return t
}
