//go:build race

package iommu

import (
	"sync"
	"sync/atomic"
)

// turns is how often pin was called: it goes through the shards.
var turns atomic.Uint32

// A guard is a lock under the race detector, which does not know that goroutines pinned
// to the same processor take turns.
type guard struct{ mu sync.Mutex }

func (d *Domain) pin() *shard {
	s := &d.shards[turns.Add(1)%uint32(len(d.shards))]
	s.mu.Lock()
	return s
}

func (d *Domain) seize() *shard { return d.pin() }

func (s *shard) unpin() { s.mu.Unlock() }

// pass waits for who is inside.
func (g *guard) pass() {
	g.mu.Lock()
	g.mu.Unlock() //nolint:staticcheck // only to wait
}
