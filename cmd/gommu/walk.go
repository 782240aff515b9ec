//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/qemu-tests/conformance"
)

var errIOVA = errors.New("not an IOVA: write it as 0x123456789000")

func newWalk() *cobra.Command {
	var opts exampleOptions
	cmd := &cobra.Command{
		Use:   "walk IOVA",
		Short: "Follow one IOVA through the tables, level by level",
		Long: "Goes the way that a unit goes, from its root table register to the memory, and explains each entry. `gommu tables` shows what\n" +
			"the example maps.\n\n" + exampleText,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			iova, err := strconv.ParseUint(args[0], 0, 64)
			if err != nil {
				return fmt.Errorf("%q: %w", args[0], errIOVA)
			}
			return withExample(cmd.Context(), opts, func(e *example) error {
				w := walk{mem: e.mem, regs: e.rig.Registers(), source: e.source, iova: iova, mode: e.place.Mode}
				fmt.Fprintln(&w.text, e)
				w.run()
				_, err := io.WriteString(cmd.OutOrStdout(), w.text.String())
				return err
			})
		},
	}
	opts.flags(cmd)
	return cmd
}

// A walk is one way through the tables (VT-d specification, sections 9.1 to 9.8).
type walk struct {
	mem    *pagetable.Memory
	regs   vtd.Registers
	source uint16
	iova   uint64
	mode   conformance.Mode
	text   strings.Builder
}

// entry reads n words of an entry, whose table is at bus, and prints them.
func (w *walk) entry(name string, bus uint64, index, n int) ([]uint64, bool) {
	table := w.mem.Entries(pagetable.Frame{Bus: bus})
	if table == nil {
		fmt.Fprintf(&w.text, "%-9s the table at %#x is not in the table memory: the unit cannot read it\n", name, bus)
		return nil, false
	}
	words := make([]uint64, n)
	for i := range words {
		words[i] = atomic.LoadUint64(&table[index*n+i])
	}
	fmt.Fprintf(&w.text, "%-9s [%03x] of %#x: %#x", name, index, bus, words[0])
	for _, v := range words[1:min(n, 3)] {
		fmt.Fprintf(&w.text, " %#x", v)
	}
	if words[0]&1 == 0 && n > 1 {
		fmt.Fprintln(&w.text, ": not present: DMA is blocked")
		return nil, false
	}
	return words, true
}

func (w *walk) explain(format string, args ...any) { fmt.Fprintf(&w.text, ": "+format+"\n", args...) }

func (w *walk) run() {
	root := w.regs.Read64(0x20)
	fmt.Fprintf(&w.text, "%-9s %#x: %s\n", "RTADDR", root, rootText(root))
	words, ok := w.entry("root", root&addressBits, int(w.source>>8), 2)
	if !ok {
		return
	}
	if w.mode == conformance.Legacy {
		w.explain("context table at %#x", words[0]&addressBits)
		w.context(words[0] & addressBits)
		return
	}
	w.explain("context table for devices 0 to 15 at %#x", words[0]&addressBits)
	if words, ok = w.entry("context", words[0]&addressBits, int(w.source&0x7f), 4); !ok {
		return
	}
	w.explain("PASID directory of %d entries at %#x, DMA without a PASID goes by PASID %d%s", 1<<(7+words[0]>>9&7), words[0]&addressBits, words[1]&0xfffff, faultText(words[0]))
	w.pasid(words[0]&addressBits, words[1]&0xfffff)
}

// context explains the context entry of legacy mode.
func (w *walk) context(table uint64) {
	words, ok := w.entry("context", table, int(w.source&0xff), 2)
	if !ok {
		return
	}
	levels := int(words[1]&7) + 2
	kind := [...]string{"untranslated requests go through the table", "the device may ask for translations", "pass-through", "reserved"}[words[0]>>2&3]
	w.explain("%d levels from %#x, domain %d, %s%s", levels, words[0]&addressBits, words[1]>>8&0xffff, kind, faultText(words[0]))
	if words[0]>>2&3 < 2 {
		w.pages(words[0]&addressBits, levels)
	}
}

// pasid explains the entries that a PASID leads through.
func (w *walk) pasid(directory, pasid uint64) {
	table := w.mem.Entries(pagetable.Frame{Bus: directory})
	if table == nil {
		fmt.Fprintf(&w.text, "%-9s the directory at %#x is not in the table memory: the unit cannot read it\n", "directory", directory)
		return
	}
	words, ok := w.entry("directory", directory, int(pasid>>6), 1)
	if !ok {
		return
	}
	if words[0]&1 == 0 {
		w.explain("not present: DMA is blocked")
		return
	}
	w.explain("PASID table at %#x%s", words[0]&addressBits, faultText(words[0]))
	if words, ok = w.entry("PASID", words[0]&addressBits, int(pasid&63), 8); !ok {
		return
	}
	switch kind := words[0] >> 6 & 7; kind {
	case 1:
		levels := int(words[2]>>2&3) + 4
		w.explain("first stage, %d levels from %#x, domain %d%s", levels, words[2]&addressBits, words[1]&0xffff, faultText(words[0]))
		w.pages(words[2]&addressBits, levels)
	case 2:
		levels := int(words[0]>>2&7) + 2
		w.explain("second stage, %d levels from %#x, domain %d%s", levels, words[0]&addressBits, words[1]&0xffff, faultText(words[0]))
		w.pages(words[0]&addressBits, levels)
	default:
		w.explain("translation type %d, which has no one table", kind)
	}
}

func faultText(entry uint64) string {
	if entry&2 != 0 {
		return ", faults are not recorded (FPD)"
	}
	return ""
}

// What the bits of page-table entries mean (sections 9.7 and 9.8).
var (
	firstBits = bitNames(bit{0, "present"}, bit{1, "write"}, bit{2, "user"}, bit{3, "PWT"}, bit{4, "PCD"}, bit{5, "accessed"}, bit{6, "dirty"},
		bit{8, "global"}, bit{10, "extended accessed"}, bit{63, "no execute"})
	secondBits = bitNames(bit{0, "read"}, bit{1, "write"}, bit{2, "execute"}, bit{6, "ignore PAT"}, bit{8, "accessed"}, bit{9, "dirty"},
		bit{11, "snoop"}, bit{62, "transient mapping"})
)

// pages walks the page table.
func (w *walk) pages(table uint64, levels int) {
	first, bits := w.mode == conformance.ScalableFirst, 12+9*levels
	if !first && w.iova>>bits != 0 {
		fmt.Fprintf(&w.text, "%#x is beyond the table's %d bits: DMA is blocked\n", w.iova, bits)
		return
	}
	if high := int64(w.iova) >> (bits - 1); first && high != 0 && high != -1 {
		fmt.Fprintf(&w.text, "%#x is not canonical: bits 63:%d differ: DMA is blocked\n", w.iova, bits-1)
		return
	}
	for level := levels; level > 0; level-- {
		shift := 12 + 9*(level-1)
		words, ok := w.entry("level "+strconv.Itoa(level), table, int(w.iova>>shift&511), 1)
		if !ok {
			return
		}
		e := words[0]
		names, present := secondBits, e&3 != 0
		if first {
			names, present = firstBits, e&1 != 0
		}
		if !present {
			w.explain("not present: DMA is blocked")
			return
		}
		if level == 1 || level <= 3 && e&0x80 != 0 {
			size := uint64(1) << shift
			bus := e & addressBits &^ (size - 1)
			w.explain("leaf of %s at %#x; %s", sizeName(size), bus, names(e))
			fmt.Fprintf(&w.text, "iova %#x is bus %#x\n", w.iova, bus|w.iova&(size-1))
			return
		}
		w.explain("table at %#x; %s", e&addressBits, names(e))
		table = e & addressBits
	}
}

func sizeName(n uint64) string {
	return map[uint64]string{1 << 12: "4 KiB", 1 << 21: "2 MiB", 1 << 30: "1 GiB"}[n]
}
