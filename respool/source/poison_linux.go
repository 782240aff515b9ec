package source

import (
	"fmt"
	"hash/maphash"
	"sync"
)

const (
	poisonMask  = 0xa5
	poisonChunk = 64      // bytes of a block for which there is one sum
	poisonLimit = 1 << 20 // bytes of a block that are poisoned
)

// A poison spoils blocks and knows what they have to look like until they are restored.
type poison struct {
	seed maphash.Seed
	mu   sync.Mutex
	sums map[Block][]uint64
}

// Poison inverts some bits of every byte in the first 1 MiB of the block, for debug builds of the
// pool. The zero of a cleared block reads as 0xa5. Of a block that is not out it does nothing.
func (a *arena) Poison(b Block) {
	mem := a.poisoned(b)
	if mem == nil {
		return
	}
	p := &a.poison
	p.mu.Lock()
	if p.sums == nil {
		p.seed, p.sums = maphash.MakeSeed(), map[Block][]uint64{}
	}
	p.mu.Unlock()
	invert(mem)
	sums := p.sum(mem)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums[b] = sums
}

// Check gives the block the contents that it had before Poison, but for what was written
// since: its error says where that is, to 64 bytes. Of a block that is not poisoned it says
// nothing.
func (a *arena) Check(b Block) error {
	p := &a.poison
	p.mu.Lock()
	want, poisoned := p.sums[b]
	delete(p.sums, b)
	p.mu.Unlock()
	if !poisoned {
		return nil
	}
	mem := a.poisoned(b)
	got := p.sum(mem)
	invert(mem)
	for i := range got {
		if got[i] != want[i] {
			at := i * poisonChunk
			return fmt.Errorf("bytes %d to %d of %d", at, min(at+poisonChunk, len(mem))-1, a.size)
		}
	}
	return nil
}

// poisoned is the part of a block that is poisoned, nothing if it is not out.
func (a *arena) poisoned(b Block) []byte {
	mem := a.Bytes(b)
	return mem[:min(len(mem), poisonLimit)]
}

func invert(mem []byte) {
	for i := range mem {
		mem[i] ^= poisonMask
	}
}

func (p *poison) sum(mem []byte) []uint64 {
	sums := make([]uint64, 0, (len(mem)+poisonChunk-1)/poisonChunk)
	for at := 0; at < len(mem); at += poisonChunk {
		sums = append(sums, maphash.Bytes(p.seed, mem[at:min(at+poisonChunk, len(mem))]))
	}
	return sums
}
