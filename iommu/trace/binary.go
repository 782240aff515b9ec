package trace

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"fmt"

	"gommu/internal/probe"
)

// A site is where a probe is in a program's file, in bytes from its start.
type site struct {
	function string
	address  uint64 // of the function
	counter  uint64 // of its word
}

// functions are the names of the probes' functions, by number.
var functions = [probe.Points]string{
	probe.Map:        "CallMap",
	probe.Unmap:      "CallUnmap",
	probe.Flush:      "CallFlush",
	probe.PoolGrow:   "CallPoolGrow",
	probe.PoolShrink: "CallPoolShrink",
	probe.PoolEmpty:  "CallPoolEmpty",
	probe.Fault:      "CallFault",
	probe.SampleBit0: "CallSampleBit0",
	probe.SampleBit1: "CallSampleBit1",
	probe.SampleBit2: "CallSampleBit2",
	probe.SampleBit3: "CallSampleBit3",
}

// packages is where the functions are: under this path in every program that
// imports the library, also if its modules are vendored.
const packages = "gommu/internal/probe."

// sites finds the probes in a program's file. It needs no symbols: the functions
// are in the table that Go's runtime itself has (.gopclntab), the words behind a mark
// (see package probe). A probe that the program does not have, because nothing of it uses
// that part of the library, is missing.
func sites(path string) (map[probe.Point]site, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProgram, err)
	}
	defer f.Close()
	words, n, err := wordsOf(f)
	if err != nil {
		return nil, err
	}
	symbols, err := symbolsOf(f)
	if err != nil {
		return nil, err
	}
	found := map[probe.Point]site{}
	for p, name := range functions[:min(n, len(functions))] {
		fn := symbols.LookupFunc(packages + name)
		if fn == nil {
			continue
		}
		at, err := offset(f, fn.Entry)
		if err != nil {
			return nil, err
		}
		found[probe.Point(p)] = site{packages + name, at, words + 4*uint64(p)}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: it never maps anything", ErrNoProbes)
	}
	return found, nil
}

// wordsOf finds the words and how many there are.
func wordsOf(f *elf.File) (offset uint64, n int, err error) {
	for _, name := range []string{".noptrdata", ".data"} {
		s := f.Section(name)
		if s == nil {
			continue
		}
		data, err := s.Data()
		if err != nil {
			return 0, 0, fmt.Errorf("%w: section %s: %w", ErrProgram, name, err)
		}
		version := uint32(0)
		for from := 0; ; {
			i := bytes.Index(data[from:], probe.Mark[:])
			if i < 0 {
				break
			}
			head := from + i + len(probe.Mark)
			from += i + 1
			if head+8 > len(data) {
				continue
			}
			version = f.ByteOrder.Uint32(data[head:])
			n = int(f.ByteOrder.Uint32(data[head+4:]))
			if version == probe.Version && n > 0 && head+8+4*n <= len(data) && plausible(data[head+8:][:4*n], f.ByteOrder) {
				return s.Offset + uint64(head) + 8, n, nil
			}
		}
		if version > probe.Version && version < 1000 {
			return 0, 0, fmt.Errorf("%w: its probes are of version %d, known here is %d: use the tool of its version", ErrNoProbes, version, probe.Version)
		}
	}
	return 0, 0, fmt.Errorf("%w: is it a Go program that imports gommu/iommu or gommu/respool?", ErrNoProbes)
}

// plausible says whether the words are those of a program in its file: all off.
func plausible(words []byte, order binary.ByteOrder) bool {
	for ; len(words) > 0; words = words[4:] {
		if order.Uint32(words) != probe.Off {
			return false
		}
	}
	return true
}

// symbolsOf reads Go's own table.
func symbolsOf(f *elf.File) (*gosym.Table, error) {
	text, table := f.Section(".text"), f.Section(".gopclntab")
	if table == nil {
		table = f.Section(".data.rel.ro.gopclntab") // position-independent programs
	}
	if text == nil || table == nil {
		return nil, fmt.Errorf("%w: no Go symbol table (.gopclntab)", ErrProgram)
	}
	data, err := table.Data()
	if err != nil {
		return nil, fmt.Errorf("%w: section %s: %w", ErrProgram, table.Name, err)
	}
	t, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return nil, fmt.Errorf("%w: Go symbol table: %w", ErrProgram, err)
	}
	return t, nil
}

// offset is where in the file lies what is loaded at an address.
func offset(f *elf.File, address uint64) (uint64, error) {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && address >= p.Vaddr && address-p.Vaddr < p.Filesz {
			return address - p.Vaddr + p.Off, nil
		}
	}
	return 0, fmt.Errorf("%w: address %#x is in no segment", ErrProgram, address)
}
