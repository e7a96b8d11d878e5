package crd

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// convertedSize bounds what is kept of conversions, in bytes.
const convertedSize = 32 << 20

// converted keeps what webhooks made of stored objects, of all kinds. An object
// is known by its stored content, which says which object it is and does not
// change; so a list of unchanged objects asks nobody, as upstream's does not
// which reads from its watch cache. What is asked for least goes first. The zero
// converted is empty and in use.
type converted struct {
	mu    sync.Mutex
	all   map[conversion]*list.Element
	order list.List // of *kept, the last used first
	size  int
}

// conversion names one: a changed definition is another webhook.
type conversion struct {
	by  *webhook
	to  string
	sum [sha256.Size]byte
}

type kept struct {
	of   conversion
	json []byte
}

// overhead of one that is kept, in bytes.
const overhead = 256

// get is the JSON of a converted object, nil for one that is not kept.
func (c *converted) get(of conversion) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[of]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*kept).json
}

func (c *converted) put(of conversion, json []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[of] != nil || len(json) > convertedSize/8 {
		return
	}
	if c.all == nil {
		c.all = map[conversion]*list.Element{}
	}
	c.all[of] = c.order.PushFront(&kept{of, json})
	for c.size += len(json) + overhead; c.size > convertedSize; {
		c.drop(c.order.Back())
	}
}

// forget drops what a webhook made whose kind is no longer served.
func (c *converted) forget(by *webhook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*kept).of.by == by {
			c.drop(e)
		}
		e = next
	}
}

func (c *converted) drop(e *list.Element) {
	k := c.order.Remove(e).(*kept)
	delete(c.all, k.of)
	c.size -= len(k.json) + overhead
}
