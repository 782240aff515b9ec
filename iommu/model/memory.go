package model

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
)

const pageSize = 4096

// unwritten is what a unit that does not snoop finds where no cache line was ever
// written back. As an entry it has P set and leads nowhere.
const unwritten = 0xa5a5_a5a5_a5a5_a5a5

// memory is RAM as the processors, the devices and the unit's walks see it.
// Devices snoop, and so do the unit's accesses to the queue (section 11.4.3,
// ECAP.C).
type memory struct {
	base uint64
	ram  []uint64

	// written is what the lines written back hold, for walks that do not snoop;
	// nil if all snoop. Who writes to it holds writing, because a line goes to memory at
	// once: a flush by one processor must not bring back what another had stored before.
	written []uint64
	writing sync.Mutex
	// flushing is nil if a flush takes effect at once.
	flushing *flushing
	// drained is what has left the write buffers; nil without such.
	drained []uint64
}

func newMemory(c *Config) *memory {
	m := &memory{base: c.RAMBase, ram: view(c.RAM)}
	// In scalable mode a PASID entry says whether walks snoop.
	if !c.Coherent || c.Scalable {
		m.written = slices.Repeat([]uint64{unwritten}, len(m.ram))
		if c.UnorderedFlushes {
			m.flushing = &flushing{words: make(map[int]uint64)}
		}
	}
	if c.WriteBufferFlush {
		m.drained = make([]uint64, len(m.ram))
	}
	return m
}

// index is where the word at a bus address is, or false if there is no memory.
// The address is a multiple of 8.
func (m *memory) index(addr uint64) (int, bool) {
	i := (addr - m.base) / 8
	if addr < m.base || i >= uint64(len(m.ram)) {
		return 0, false
	}
	return int(i), true
}

// entry reads a word of a table as a walk finds it.
func (m *memory) entry(addr uint64, snoop bool) (uint64, bool) {
	i, ok := m.index(addr)
	if !ok {
		return 0, false
	}
	switch {
	case m.drained != nil:
		return atomic.LoadUint64(&m.drained[i]), true
	case snoop:
		return atomic.LoadUint64(&m.ram[i]), true
	default:
		return atomic.LoadUint64(&m.written[i]), true
	}
}

// mark sets bits in an entry that held old, and says whether it still did. It
// snoops.
func (m *memory) mark(addr, old, set uint64) bool {
	i, ok := m.index(addr)
	if !ok || !atomic.CompareAndSwapUint64(&m.ram[i], old, old|set) {
		return false
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	m.settle(i)
	return true
}

// settle makes the word in memory what it is in RAM: something that snoops has
// written it. The caller holds writing if there is something to settle.
func (m *memory) settle(i int) {
	if m.written != nil {
		atomic.StoreUint64(&m.written[i], atomic.LoadUint64(&m.ram[i]))
	}
	if m.drained != nil {
		atomic.StoreUint64(&m.drained[i], atomic.LoadUint64(&m.ram[i]))
	}
}

// flushed takes the processors' stores to the cache lines of words. Where flushes
// are not ordered, some lines wait for a fence with what they held, by a hash of
// their address and of how many were flushed before: in the long run each line
// does either.
func (m *memory) flushed(words []uint64) {
	if m.written == nil {
		return
	}
	first, last := lines(m.ram, words)
	if first == last {
		return
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.flushing == nil {
		m.writeBack(first, last)
		return
	}
	f := m.flushing
	for ; first < last; first = f.end(first, last) {
		f.count++
		end := f.end(first, last)
		if (uint64(first/8)+f.count)*0x9e37_79b9_7f4a_7c15>>63 == 0 {
			m.writeBack(first, end)
			continue
		}
		for i := first; i < end; i++ {
			f.words[i] = atomic.LoadUint64(&m.ram[i])
		}
	}
}

// writeBack writes words of RAM from first to before last back to memory. What
// waits of them is older.
func (m *memory) writeBack(first, last int) {
	for i := first; i < last; i++ {
		atomic.StoreUint64(&m.written[i], atomic.LoadUint64(&m.ram[i]))
		if m.flushing != nil {
			delete(m.flushing.words, i)
		}
	}
}

// fenced completes all flushes.
func (m *memory) fenced() {
	f := m.flushing
	if f == nil {
		return
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	for i, v := range f.words {
		atomic.StoreUint64(&m.written[i], v)
	}
	clear(f.words)
}

// flushing are the words of lines that were flushed and not fenced.
type flushing struct {
	words map[int]uint64
	count uint64
}

// end is the first index behind the line of first, or last if that is less.
func (*flushing) end(first, last int) int { return min(last, (first/8+1)*8) }

// drain lets all stores through the write buffers (section 6.8).
func (m *memory) drain(snoop bool) {
	if m.drained == nil {
		return
	}
	from := m.ram
	if !snoop {
		from = m.written
	}
	for i := range from {
		// A store costs much more than the loads, and most words are the same.
		if v := atomic.LoadUint64(&from[i]); v != atomic.LoadUint64(&m.drained[i]) {
			atomic.StoreUint64(&m.drained[i], v)
		}
	}
}

// read copies memory to dst, or reports that there is none.
func (m *memory) read(addr uint64, dst []byte) bool {
	if !m.holds(addr, len(dst)) {
		return false
	}
	i, skip := int((addr-m.base)/8), int(addr%8)
	var word [8]byte
	for skip != 0 && len(dst) > 0 {
		binary.NativeEndian.PutUint64(word[:], atomic.LoadUint64(&m.ram[i]))
		dst = dst[copy(dst, word[skip:]):]
		i, skip = i+1, 0
	}
	if aligned(dst) {
		whole := view(dst)
		for j, p := 0, m.ram[i:][:len(whole)]; j < len(whole) && j < len(p); j++ {
			whole[j] = atomic.LoadUint64(&p[j])
		}
		i, dst = i+len(whole), dst[8*len(whole):]
	}
	for len(dst) >= 8 {
		binary.NativeEndian.PutUint64(dst, atomic.LoadUint64(&m.ram[i]))
		i, dst = i+1, dst[8:]
	}
	if len(dst) > 0 {
		binary.NativeEndian.PutUint64(word[:], atomic.LoadUint64(&m.ram[i]))
		copy(dst, word[:])
	}
	return true
}

// write copies src to memory, or reports that there is none.
func (m *memory) write(addr uint64, src []byte) bool {
	if !m.holds(addr, len(src)) {
		return false
	}
	if m.written != nil || m.drained != nil {
		m.writing.Lock()
		defer m.writing.Unlock()
	}
	i, skip := int((addr-m.base)/8), int(addr%8)
	for len(src) > 0 {
		if skip == 0 && len(src) >= 8 {
			atomic.StoreUint64(&m.ram[i], binary.NativeEndian.Uint64(src))
			src = src[8:]
		} else {
			src = src[m.merge(i, skip, src):]
		}
		m.settle(i)
		i, skip = i+1, 0
	}
	return true
}

// merge writes some bytes of a word and says how many.
func (m *memory) merge(i, skip int, src []byte) int {
	for {
		old := atomic.LoadUint64(&m.ram[i])
		var word [8]byte
		binary.NativeEndian.PutUint64(word[:], old)
		n := copy(word[skip:], src)
		if atomic.CompareAndSwapUint64(&m.ram[i], old, binary.NativeEndian.Uint64(word[:])) {
			return n
		}
	}
}

// holds says whether n bytes from addr on are memory.
func (m *memory) holds(addr uint64, n int) bool {
	size := uint64(len(m.ram)) * 8
	return addr >= m.base && addr-m.base < size && uint64(n) <= size-(addr-m.base)
}

// current reads a word as what snoops and passes the write buffers finds it.
func (m *memory) current(addr uint64) (uint64, bool) {
	i, ok := m.index(addr)
	if !ok {
		return 0, false
	}
	return atomic.LoadUint64(&m.ram[i]), true
}
