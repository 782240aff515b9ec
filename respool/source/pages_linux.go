package source

import (
	"fmt"
	"os"
)

// defaultChunk is how much Pages maps at a time, in bytes.
const defaultChunk = 1 << 20

// PagesOptions configure Pages. A field that is zero takes its default.
type PagesOptions struct {
	// Size is the size of a block in bytes. A block takes a power of two of at least
	// 64 bytes or, from a page on, whole pages. Default one page.
	Size int

	// Chunk is how many bytes are mapped, and unmapped, at a time: at least one block and one page, rounded
	// up to whole ones of both; at most 1 GiB unless a block is larger. Default 1 MiB. The last chunk
	// below Limit is smaller.
	Chunk int

	// Limit bounds the bytes mapped at a time. Default none but what the kernel sets
	// and the pool's Max.
	Limit int
}

// Pages is a source of blocks of anonymous private memory. NewPages makes one.
type Pages struct{ arena }

// NewPages returns a source that has nothing mapped yet. It refuses with ErrBadOptions
// what is negative or too large, and a limit below one block.
func NewPages(o PagesOptions) (*Pages, error) { return newPages(o, kernel) }

func newPages(o PagesOptions, sys system) (*Pages, error) {
	bad := func(format string, args ...any) (*Pages, error) {
		return nil, &OpError{Op: "new", Source: "pages", Size: o.Size, Err: fmt.Errorf("%w: "+format, append([]any{ErrBadOptions}, args...)...)}
	}
	page := os.Getpagesize()
	if o.Size < 0 || o.Chunk < 0 || o.Limit < 0 {
		return bad("Size (%d), Chunk (%d) or Limit (%d) is negative: leave it zero for the default", o.Size, o.Chunk, o.Limit)
	}
	if o.Size == 0 {
		o.Size = page
	}
	if o.Size > maxBlock || (o.Chunk > maxChunk && o.Chunk > o.Size) {
		return bad("Size (%d) is above %d, or Chunk (%d) above %d", o.Size, maxBlock, o.Chunk, maxChunk)
	}
	if o.Chunk == 0 {
		o.Chunk = defaultChunk
	}
	stride := strideOf(o.Size, page)
	unit := max(stride, page)
	if o.Limit != 0 && o.Limit < unit {
		return bad("Limit (%d) is below the %d bytes that one block maps: raise Limit or lower Size", o.Limit, unit)
	}
	p := &Pages{arena{name: "pages", size: o.Size, stride: stride, unit: unit, chunk: roundUp(o.Chunk, unit), limit: o.Limit, sys: sys}}
	p.grow = p.mapOrdinary
	p.init()
	return p, nil
}

// strideOf is the room that a block of size bytes takes, so that one smaller than a
// page does not cross one.
func strideOf(size, page int) int {
	if size >= page {
		return roundUp(size, page)
	}
	stride := minBlock
	for stride < size {
		stride *= 2
	}
	return stride
}

// roundUp returns the least multiple of unit that is not below n.
func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }
