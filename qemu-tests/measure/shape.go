package measure

import "fmt"

// A Shape is what one mapping is of: pieces of the same size, which do not lie
// next to each other in memory.
type Shape struct {
	Name   string // as rows have it
	Size   int    // bytes of a piece
	Pieces int    // 1, or a list
}

// The shapes that are measured.
var (
	Page      = Shape{"4K", 4 << 10, 1}
	Buffer    = Shape{"64K", 64 << 10, 1}
	Superpage = Shape{"2M", 2 << 20, 1}
	List      = Shape{"sg16", 4 << 10, 16}
)

// Shapes are all of them.
func Shapes() []Shape { return []Shape{Page, Buffer, Superpage, List} }

// Bytes is what a mapping is of in all.
func (s Shape) Bytes() int { return s.Size * s.Pieces }

// Slice is what mapping number n of mem is of. Mappings share memory when mem
// has no more. Pieces of a list lie apart by a page or more where mem is large
// enough.
func (s Shape) Slice(mem []byte, n int) ([][]byte, error) {
	if len(mem) < s.Bytes() {
		return nil, &Error{Op: "memory for " + s.Name, Err: fmt.Errorf("%w: %d bytes, %d are needed", ErrMemory, len(mem), s.Bytes())}
	}
	room := len(mem) / s.Size // pieces
	list := make([][]byte, s.Pieces)
	for i := range list {
		at := (n*s.Pieces + i) % room
		if s.Pieces > 1 {
			at = (n + i*stride(room, s.Pieces)) % room
		}
		list[i] = mem[at*s.Size:][:s.Size:s.Size]
	}
	return list, nil
}

// stride is how far apart the pieces of a list are, so that none is used twice.
func stride(room, pieces int) int { return room / pieces }
