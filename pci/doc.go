// Package pci reaches PCI functions.
package pci
