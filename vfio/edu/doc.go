// Package edu drives QEMU's educational PCI device (1234:11e8), which copies
// between memory and a buffer of its own: a DMA engine that reaches any IOVA,
// for tests and demonstrations. It uses package pci only, so it runs over VFIO,
// sysfs and qtest alike.
//
// The device checks nothing: it masks addresses that are too wide without a
// sign, and QEMU 7.2 ends when a transfer ends exactly at the buffer's end. So
// this driver refuses these, and never starts a transfer while one is under
// way.
//
// A Device does not own the function or its BAR; it switches the function's bus
// mastering on in Open and off in Close. Memory that the device was told to use
// stays mapped until the transfer has ended or Close has returned.
//
// A transfer blocks until it is done or its context ends; in a guest that runs
// in real time it takes 100 ms. Methods may be called from several goroutines:
// a transfer that meets another one fails with ErrBusy, it does not wait.
//
// Registers are those of QEMU's docs/specs/edu.rst.
package edu
