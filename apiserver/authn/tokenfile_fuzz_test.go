package authn

import (
	"bytes"
	"testing"
)

func FuzzReadTokenFile(f *testing.F) {
	f.Add([]byte("token,name,uid,\"a,b\"\n"))
	f.Add([]byte("token,name\n\n,,\n\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := ReadTokenFile(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, x := range all {
			if x.token == "" {
				t.Error("an empty token lets somebody in")
			}
		}
	})
}
