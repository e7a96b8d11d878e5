package compose

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// RotateKey is the body of a POST that rotates keys, and with Keys its answer.
type RotateKey struct {
	// DropOld deletes the keys of before: what they sealed or signed is lost,
	// in backups too.
	DropOld bool `json:"dropOld,omitempty"`
	// Keys is how many there are afterwards.
	Keys int `json:"keys,omitempty"`
}

// serveRotation lets administrators rotate keys by a POST to path. rotate
// returns how many keys there are afterwards; said goes to the log.
func (s *server) serveRotation(path, said string, rotate func(ctx context.Context, dropOld bool) (keys int, err error)) {
	s.api.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
			return
		}
		var ask RotateKey
		if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&ask); err != nil {
			http.Error(w, "cannot read the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		keys, err := rotate(r.Context(), ask.DropOld)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		s.log.Info(said, "keys", keys)
		ask.Keys = keys
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(ask)
	}))
}
