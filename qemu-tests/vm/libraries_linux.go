package vm

import "github.com/u-root/u-root/pkg/ldd"

// libraries returns the loader and the libraries of a program, and the links that lead to them.
func libraries(file string) ([]string, error) { return ldd.FList(file) }
