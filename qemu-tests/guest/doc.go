// Package guest holds the tests that need a Linux kernel behind a VT-d unit. They run inside of a
// virtual machine, which vm.Run starts; anywhere else they skip.
package guest
