package source

// A Block is a run of memory outside the Go heap, the element of Pages and HugePages. It
// holds no pointer; its source's Bytes returns the memory. The zero Block is none. Blocks
// can be compared: no two that were ever handed out in this process are equal.
type Block struct {
	serial uint64 // of the Alloc that made it, over all sources
	chunk  uint32 // its slot in the source's table
	index  uint32 // its place in the chunk
}

// MemoryStats are what a source of memory holds.
type MemoryStats struct {
	Out      int // blocks handed out
	Mapped   int // bytes mapped, those of free places in chunks included
	Ordinary int // of these, bytes that HugePages could not get as hugepages
}
