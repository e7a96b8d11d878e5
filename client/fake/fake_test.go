package fake_test

import (
	"testing"

	"sagong/client"
	"sagong/client/clienttest"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
)

func TestSuite(t *testing.T) {
	clienttest.Run(t, func(t *testing.T) client.Client {
		c := fake.New(object.NewScheme(kinds.All()...))
		t.Cleanup(func() { c.Close() })
		return c
	})
}
