package encryption

import (
	"context"
	"errors"
	"time"
)

// Look makes every provider look at its plugin now.
func (c *Cipher) Look(ctx context.Context) error {
	var errs []error
	for _, k := range c.state().kms {
		errs = append(errs, k.look(ctx))
	}
	return errors.Join(errs...)
}

// Later moves the clock of the providers on.
func (c *Cipher) Later(d time.Duration) {
	for _, k := range c.state().kms {
		now := k.now().Add(d)
		k.now = func() time.Time { return now }
	}
}
