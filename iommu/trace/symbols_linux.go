//go:build amd64 || arm64

package trace

import (
	"bufio"
	"cmp"
	"debug/elf"
	"debug/gosym"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Symbols finds the names of the functions of stacks. Its zero value is ready. It keeps what it has read of programs and of the
// kernel. Not for several goroutines at once.
type Symbols struct {
	programs map[uint32]*image
	kernel   []symbol
	read     bool
}

type image struct {
	table *gosym.Table
	base  uint64 // what its addresses were moved by
}

type symbol struct {
	at   uint64
	name string
}

// Name is the function, and for programs the file and line, at an address of an event's stack. What cannot be found out, because the
// process has ended, or the kernel keeps its addresses secret, is the plain address.
func (s *Symbols) Name(e Event, at uint64) string {
	if e.Operation.Kernel() {
		return s.kernelName(at)
	}
	if s.programs == nil {
		s.programs = map[uint32]*image{}
	}
	p, ok := s.programs[e.Process]
	if !ok {
		p, _ = loadImage(e.Process)
		s.programs[e.Process] = p
	}
	if p != nil {
		// The address is behind the call.
		if file, line, fn := p.table.PCToLine(at - p.base - 1); fn != nil {
			return fmt.Sprintf("%s %s:%d", fn.Name, file, line)
		}
	}
	return fmt.Sprintf("%#x", at)
}

func loadImage(pid uint32) (*image, error) {
	path := fmt.Sprintf("/proc/%d/exe", pid)
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	table, err := symbolsOf(f)
	if err != nil {
		return nil, err
	}
	p := &image{table: table}
	if f.Type == elf.ET_DYN {
		p.base, err = loadedAt(pid)
	}
	return p, err
}

// loadedAt is where the program's first segment lies, which is linked to lie at 0.
func loadedAt(pid uint32) (uint64, error) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return 0, err
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to, offset uint64
		var rights string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %x", &from, &to, &rights, &offset); n == 4 && offset == 0 && strings.HasSuffix(strings.TrimSpace(line), exe) {
			return from, nil
		}
	}
	return 0, fmt.Errorf("%s is not mapped", exe)
}

func (s *Symbols) kernelName(at uint64) string {
	if !s.read {
		s.read = true
		s.kernel = kernelSymbols("/proc/kallsyms")
	}
	i, exact := slices.BinarySearchFunc(s.kernel, at, func(k symbol, at uint64) int { return cmp.Compare(k.at, at) })
	if !exact {
		i--
	}
	if i < 0 || s.kernel[i].at == 0 {
		return fmt.Sprintf("%#x", at)
	}
	return fmt.Sprintf("%s+%#x", s.kernel[i].name, at-s.kernel[i].at)
}

// kernelSymbols is sorted; empty if the kernel shows no addresses.
func kernelSymbols(path string) (list []symbol) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		address, rest, _ := strings.Cut(lines.Text(), " ")
		kind, name, _ := strings.Cut(rest, " ")
		name, _, _ = strings.Cut(name, "\t") // the module
		at, err := strconv.ParseUint(address, 16, 64)
		if err == nil && kind != "" && strings.Contains("tTwW", kind) {
			list = append(list, symbol{at, name})
		}
	}
	slices.SortStableFunc(list, func(a, b symbol) int { return cmp.Compare(a.at, b.at) })
	return list
}
