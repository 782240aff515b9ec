// Package pci reaches PCI functions: their configuration space and capabilities,
// their base address registers, and, on Linux, what sysfs knows of them.
//
// [Function] is the interface that a device driver is written against. It is
// implemented here over sysfs ([Sysfs.Open]), in package vfio over VFIO regions and in
// qemu-tests/qtest over QEMU's qtest socket. What works on any [Config]
// ([ReadIDs], [Capabilities], [ProbeBARs], [SetBusMaster]) is a plain function.
//
// # Ownership
//
// A Function owns its BARs: closing it unmaps them, and a [Window] used after that
// panics as a slice access does. A [Binding] owns the change that it made to a
// function's driver until Undo.
//
// # What may block
//
// Everything but the accesses of an open BAR may sleep. Unbinding a function
// from vfio-pci ([Binding.Undo]) waits in the kernel until every user has
// closed the device.
//
// # Concurrency
//
// [Sysfs] and [Names] are safe to use at once from several goroutines. So are the
// accesses of a BAR (each is one bus transaction) and the methods of a Function
// that sysfs gives. Close must come after the last access. The functions that read,
// change and write a register of a Config (SetBusMaster, SetMemoryDecode, ProbeBARs) are
// not atomic: their caller sees to it that nobody else writes the same Config.
package pci
