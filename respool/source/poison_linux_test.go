package source

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"gommu/respool"
)

var (
	_ respool.Poisoner[Block] = (*Pages)(nil)
	_ respool.Poisoner[Block] = (*HugePages)(nil)
	_ respool.Poisoner[int]   = (*Faulty[int])(nil)
	_ respool.Poisoner[int]   = Values[int]{}
)

// A poisoned block reads as nonsense, and is as it was after Check.
func TestPoison(t *testing.T) {
	for _, size := range []int{1, 64, 100, page, 3*page + 5, poisonLimit + page} {
		noLeak(t)
		m := openPages(t, &probe{}, PagesOptions{Size: size})
		b, other := alloc(t, m), alloc(t, m)
		mem := m.Bytes(b)
		for i := range mem {
			mem[i] = byte(i * 7)
		}
		before := bytes.Clone(mem)
		m.Poison(b)
		for i := range min(size, poisonLimit) {
			if mem[i] == before[i] {
				t.Fatalf("size %d: byte %d is not poisoned", size, i)
			}
		}
		m.Poison(other)
		if err := m.Check(other); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		if err := m.Check(b); err != nil || !bytes.Equal(mem, before) {
			t.Errorf("size %d: Check: %v, restored: %v", size, err, bytes.Equal(mem, before))
		}
		if err := m.Check(b); err != nil || !bytes.Equal(mem, before) {
			t.Errorf("size %d: Check of what is not poisoned: %v", size, err)
		}
		free(t, m, b)
		free(t, m, other)
		m.Poison(b) // not out: nothing happens
		if err := m.Check(b); err != nil {
			t.Error(err)
		}
		end(t, m)
	}
}

// Every byte that is poisoned is watched.
func TestPoisonFindsWrites(t *testing.T) {
	m := openPages(t, &probe{}, PagesOptions{Size: 200})
	b := alloc(t, m)
	mem := m.Bytes(b)
	for i := range mem {
		m.Poison(b)
		mem[i]++
		err := m.Check(b)
		from, to := i/poisonChunk*poisonChunk, min(i/poisonChunk*poisonChunk+poisonChunk, 200)-1
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("bytes %d to %d of 200", from, to)) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	free(t, m, b)
	end(t, m)
}
