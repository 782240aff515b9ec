//go:build amd64 || arm64

package trace

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// intel is where Intel's driver has the devices of a domain: the kernel's functions are given domains only. Where the parts of the
// structures lie differs from kernel to kernel; their names do not.
type intel struct {
	owner   field // of an iommu_domain: whose it is
	ops     uint64
	domain  field // of a dmar_domain: the iommu_domain in it
	devices field // its list
	link    field // of a device_domain_info: its place in that list
	segment field
	bus     field
	devfn   field
}

// A field is a member of a structure, in bytes.
type field struct{ offset, size uint32 }

// intelTypes finds them.
func intelTypes(kernel *btf.Spec) (*intel, error) {
	i := &intel{}
	for _, f := range []struct {
		to         *field
		in, member string
	}{
		{&i.owner, "iommu_domain", "owner"},
		{&i.domain, "dmar_domain", "domain"}, {&i.devices, "dmar_domain", "devices"},
		{&i.link, "device_domain_info", "link"}, {&i.segment, "device_domain_info", "segment"},
		{&i.bus, "device_domain_info", "bus"}, {&i.devfn, "device_domain_info", "devfn"},
	} {
		var err error
		if *f.to, err = fieldOf(kernel, f.in, f.member); err != nil {
			return nil, fmt.Errorf("not known: it takes %s: %w", intelNeed, err)
		}
	}
	i.ops = intelOps()
	if i.ops == 0 {
		return nil, fmt.Errorf("not known: the kernel does not show the address of intel_iommu_ops: it takes CONFIG_KALLSYMS_ALL=y, and kernel.kptr_restrict of at most 1")
	}
	return i, nil
}

// fieldOf finds a member of a structure, also in what has no name in it.
func fieldOf(types *btf.Spec, in, member string) (field, error) {
	var s *btf.Struct
	if err := types.TypeByName(in, &s); err != nil {
		return field{}, fmt.Errorf("no struct %s: %w", in, err)
	}
	f, ok := memberOf(s.Members, member)
	if !ok {
		return field{}, fmt.Errorf("no %s in struct %s", member, in)
	}
	return f, nil
}

func memberOf(all []btf.Member, name string) (field, bool) {
	for _, m := range all {
		if m.Name == name {
			size, err := btf.Sizeof(m.Type)
			return field{m.Offset.Bytes(), uint32(size)}, err == nil && m.BitfieldSize == 0
		}
		if m.Name != "" {
			continue
		}
		var inside []btf.Member
		switch c := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			inside = c.Members
		case *btf.Union:
			inside = c.Members
		}
		if f, ok := memberOf(inside, name); ok {
			f.offset += m.Offset.Bytes()
			return f, true
		}
	}
	return field{}, false
}

// intelOps is what the domains of Intel's driver are known by. It is read once, which takes the kernel a while.
var intelOps = sync.OnceValue(func() uint64 { return kernelAddress("/proc/kallsyms", "intel_iommu_ops") })

// kernelAddress is where a symbol of the kernel's is, 0 if it is none, or secret.
func kernelAddress(path, name string) uint64 {
	all, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	i := bytes.Index(all, []byte(" "+name+"\n"))
	if i < 0 {
		return 0
	}
	line := all[bytes.LastIndexByte(all[:i], '\n')+1 : i]
	address, _, _ := bytes.Cut(line, []byte(" "))
	at, _ := strconv.ParseUint(string(address), 16, 64)
	return at
}

// device stores the requester id of the call's device in the cell, if there is one and no other in its domain.
// It must not sleep, so it takes no lock that guards the lists: it may read what is being changed, and then it takes one
// for several, or several for one.
func (b *builder) device(f function, i *intel, types *btf.Spec) {
	if i == nil {
		return
	}
	done := b.label()
	b.argument(asm.R7, 0) // the iommu_domain; of an ioctl the container
	if f.command != 0 && !b.domainOf(types, done) {
		return
	}
	b.add(asm.Mov.Reg(asm.R3, asm.R7))
	b.read(word(0), 8, i.owner.offset)
	b.fetch(asm.R1, word(0))
	b.add(asm.LoadImm(asm.R2, int64(i.ops), asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, done))
	b.onlyOne(int32(i.devices.offset)-int32(i.domain.offset), int32(i.link.offset), done)
	for k, part := range []field{i.segment, i.bus, i.devfn} {
		b.add(asm.Mov.Reg(asm.R3, asm.R7))
		b.read(word(int16(k)), int32(part.size), part.offset)
	}
	b.fetch(asm.R1, word(0))
	b.fetch(asm.R2, word(1))
	b.fetch(asm.R3, word(2))
	b.add(
		asm.LSh.Imm(asm.R1, 16), asm.LSh.Imm(asm.R2, 8),
		asm.Or.Reg(asm.R1, asm.R2), asm.Or.Reg(asm.R1, asm.R3),
	)
	b.store(cellSource, asm.R1)
	b.land(done)
}

// domainOf turns the container of VFIO in R7 into its iommu_domain. It reports whether it knows how.
func (b *builder) domainOf(types *btf.Spec, done string) bool {
	list, err1 := fieldOf(types, "vfio_iommu", "domain_list")
	next, err2 := fieldOf(types, "vfio_domain", "next")
	domain, err3 := fieldOf(types, "vfio_domain", "domain")
	if err1 != nil || err2 != nil || err3 != nil {
		return false
	}
	b.onlyOne(int32(list.offset), int32(next.offset), done)
	b.add(asm.Mov.Reg(asm.R3, asm.R7))
	b.read(word(0), 8, domain.offset)
	b.fetch(asm.R7, word(0))
	return true
}

// onlyOne turns what in R7 has a list (struct list_head) at an offset into the only element of that list, which has its place in the
// list at another offset. If there is none, or more than one, it jumps to the label.
func (b *builder) onlyOne(list, place int32, done string) {
	b.add(asm.Add.Imm(asm.R7, list), asm.Mov.Reg(asm.R3, asm.R7))
	b.read(word(0), 8, 0)
	b.fetch(asm.R3, word(0))
	b.add(asm.JEq.Reg(asm.R3, asm.R7, done))
	b.read(word(1), 8, 0)
	b.fetch(asm.R1, word(1))
	b.add(asm.JNE.Reg(asm.R1, asm.R7, done))
	b.fetch(asm.R7, word(0))
	b.add(asm.Sub.Imm(asm.R7, place))
}
