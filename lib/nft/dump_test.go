package nft

import (
	"testing"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
)

func FuzzElements(f *testing.F) {
	var b netlink.Builder
	b.Begin(0, 0, "")
	list := b.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	elem := b.Nest(listElem)
	value(&b, unix.NFTA_SET_ELEM_KEY, []byte{1, 2, 3, 4})
	value(&b, setElemKeyEnd, []byte{1, 2, 3, 5})
	data := b.Nest(unix.NFTA_SET_ELEM_DATA)
	encodeVerdict(&b, unix.NFT_GOTO, "x")
	b.End(data)
	b.Net64(unix.NFTA_SET_ELEM_EXPIRATION, 77)
	b.End(elem)
	b.End(list)
	f.Add(b.Bytes()[16:])
	f.Fuzz(func(t *testing.T, p []byte) {
		_ = parseElements(p, func(d Dumped) {
			if d.Expires < 0 {
				t.Error("negative time")
			}
		})
	})
}
