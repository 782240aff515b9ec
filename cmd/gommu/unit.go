//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"gommu/iommu/devmem"
	"gommu/iommu/vtd"
)

const onDevmem = "devmem"

var errAddress = errors.New("--address is for --on devmem, and that needs it: the ACPI table DMAR lists the units (QEMU's is at 0xfed90000)")

func newUnit() *cobra.Command {
	var opts exampleOptions
	var address uint64
	cmd := &cobra.Command{
		Use:   "unit",
		Short: "Decode the registers of a VT-d unit",
		Long: "Reads a unit's registers, changes none, and says what they mean.\n\n" + exampleText + "\n" +
			"  devmem a unit of this machine, at --address, as it is; the kernel must not drive it (intel_iommu=off)",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (opts.on == onDevmem) != (address != 0) {
				return errAddress
			}
			if opts.on == onDevmem {
				return showDevmem(cmd.OutOrStdout(), address)
			}
			return withExample(cmd.Context(), opts, func(e *example) error {
				fmt.Fprintln(cmd.OutOrStdout(), e)
				return showUnit(cmd.OutOrStdout(), e.rig.Registers())
			})
		},
	}
	opts.flags(cmd)
	cmd.Flag("on").Usage = "rung: model, qtest or devmem"
	cmd.Flags().Uint64Var(&address, "address", 0, "devmem: physical address of the registers")
	return cmd
}

func showDevmem(w io.Writer, address uint64) error {
	regs, err := devmem.Open(address, devmem.Options{})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "unit at %#x\n", address)
	return errors.Join(showUnit(w, regs), regs.Close())
}

// A register of a unit (VT-d specification, section 11.4) with the meaning of its bits.
type register struct {
	name   string
	off    uint64
	wide   bool // 8 bytes
	decode func(v uint64) string
}

var registers = []register{
	{"VER", 0x00, false, func(v uint64) string { return fmt.Sprintf("version %d.%d", v>>4&0xf, v&0xf) }},
	{"CAP", 0x08, true, nil},
	{"ECAP", 0x10, true, nil},
	{"GSTS", 0x1c, false, bitNames(bit{31, "translation on"}, bit{30, "root table set"}, bit{26, "queue on"}, bit{25, "interrupt remapping on"},
		bit{24, "interrupt table set"}, bit{23, "compatibility interrupts pass"})},
	{"RTADDR", 0x20, true, rootText},
	{"FSTS", 0x34, false, bitNames(bit{0, "a fault was lost (PFO)"}, bit{1, "faults are recorded (PPF)"}, bit{4, "bad descriptor (IQE)"},
		bit{5, "unexpected completion (ICE)"}, bit{6, "device TLB did not answer (ITE)"})},
	{"FECTL", 0x38, false, bitNames(bit{31, "fault messages masked"}, bit{30, "one is pending"})},
	{"PMEN", 0x64, false, bitNames(bit{31, "protected memory enabled"}, bit{0, "and in force"})},
	{"IQH", 0x80, true, func(v uint64) string { return fmt.Sprintf("queue head at %#x", v&0x7fff0) }},
	{"IQT", 0x88, true, func(v uint64) string { return fmt.Sprintf("queue tail at %#x", v&0x7fff0) }},
	{"IQA", 0x90, true, queueText},
}

type bit struct {
	n    int
	name string
}

// bitNames lists the bits that are set.
func bitNames(bits ...bit) func(uint64) string {
	return func(v uint64) string {
		var set []string
		for _, b := range bits {
			if v>>b.n&1 != 0 {
				set = append(set, b.name)
			}
		}
		return strings.Join(set, ", ")
	}
}

const addressBits = 0x000f_ffff_ffff_f000

func rootText(v uint64) string {
	mode := [...]string{"legacy", "scalable", "reserved", "abort DMA"}[v>>10&3]
	return fmt.Sprintf("root table at %#x, %s mode", v&addressBits, mode)
}

func queueText(v uint64) string {
	bits := 128 << (v >> 11 & 1)
	return fmt.Sprintf("queue at %#x, %d bytes, descriptors of %d bits", v&addressBits, pageSize<<(v&7), bits)
}

// showUnit prints the registers. Reading them changes nothing.
func showUnit(w io.Writer, regs vtd.Registers) error {
	b := &strings.Builder{}
	for _, r := range registers {
		v := uint64(0)
		if r.wide {
			v = regs.Read64(r.off)
		} else {
			v = uint64(regs.Read32(r.off))
		}
		text := ""
		if r.decode != nil {
			text = r.decode(v)
		}
		digits := 8
		if r.wide {
			digits = 16
		}
		fmt.Fprintln(b, strings.TrimRight(fmt.Sprintf("%03x %-6s 0x%0*x  %*s%s", r.off, r.name, digits, v, 16-digits, "", text), " "))
	}
	caps := vtd.DecodeCapabilities(regs.Read32(0x00), regs.Read64(0x08), regs.Read64(0x10))
	for i := range caps.FaultRecords {
		off := caps.FaultRecordOffset + 16*uint64(i)
		if off+16 > pageSize {
			break // the registers that are mapped end here
		}
		text := "no fault"
		if f, ok := vtd.DecodeFault(regs.Read64(off), regs.Read64(off+8)); ok {
			text = f.String()
		}
		fmt.Fprintf(b, "%03x FRCD%-2d %s\n", off, i, text)
	}
	fmt.Fprintln(b, caps)
	_, err := io.WriteString(w, b.String())
	return err
}
