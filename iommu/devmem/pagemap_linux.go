package devmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"

	"gommu/pagetable"
)

// Bits of an entry of /proc/PID/pagemap (kernel: Documentation/admin-guide/mm/pagemap.rst).
const (
	pagePresent = 1 << 63
	pageFrame   = 1<<55 - 1
)

const pagemapPath = "/proc/self/pagemap"

func readPagemap(entries []byte, off int64) error {
	f, err := os.Open(pagemapPath)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(entries, off)
	return errors.Join(err, f.Close())
}

// locate asks where memory lies and cuts it into runs that are contiguous on the bus.
func (s system) locate(mem []byte) ([]pagetable.Segment, error) {
	page := os.Getpagesize()
	entries := make([]byte, len(mem)/page*8)
	if err := s.pagemap(entries, int64(reflect.ValueOf(mem).Pointer())/int64(page)*8); err != nil {
		return nil, err
	}
	var segs []pagetable.Segment
	start := 0
	var first, last uint64
	for i := 0; i < len(mem); i += page {
		e := binary.NativeEndian.Uint64(entries[i/page*8:])
		bus := e & pageFrame * uint64(page)
		if e&pagePresent == 0 || bus == 0 {
			return nil, fmt.Errorf("%w: entry %#x of %s", ErrNoBusAddress, e, pagemapPath)
		}
		if i > 0 && bus != last+uint64(page) {
			segs = append(segs, pagetable.Segment{Bus: first, Mem: mem[start:i:i]})
			start = i
		}
		if start == i {
			first = bus
		}
		last = bus
	}
	return append(segs, pagetable.Segment{Bus: first, Mem: mem[start:]}), nil
}
