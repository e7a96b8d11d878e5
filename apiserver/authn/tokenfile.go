package authn

import (
	"context"
	"crypto/subtle"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// TokenFile authenticates tokens that a file lists, for as long as the server
// runs: token, user name, uid, and groups in quotes.
type TokenFile []fileToken

type fileToken struct {
	token string
	who   user.DefaultInfo
}

// ReadTokenFile reads a file of comma-separated values.
func ReadTokenFile(in io.Reader) (TokenFile, error) {
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	var all TokenFile
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(rec) < 3 {
			return nil, fmt.Errorf("token file must have at least 3 columns (token, user name, user uid), found %d", len(rec))
		}
		if rec[0] == "" {
			return nil, errors.New("token file has an empty token")
		}
		t := fileToken{rec[0], user.DefaultInfo{Name: rec[1], UID: rec[2]}}
		if len(rec) > 3 {
			t.who.Groups = strings.Split(rec[3], ",")
		}
		all = append(all, t)
	}
}

// AuthenticateToken implements authenticator.Token.
func (f TokenFile) AuthenticateToken(_ context.Context, token string) (*authenticator.Response, bool, error) {
	for i := range f {
		if subtle.ConstantTimeCompare([]byte(f[i].token), []byte(token)) == 1 {
			return &authenticator.Response{User: &f[i].who}, true, nil
		}
	}
	return nil, false, nil
}
