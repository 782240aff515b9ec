package dmar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// TableFile is where sysfs has the table.
const TableFile = "firmware/acpi/tables/DMAR"

// maxTable is more than any machine's table has, in bytes.
const maxTable = 1 << 20

// Read parses the table of the machine whose sysfs is fsys: os.DirFS("/sys"). Without a
// table it gives ErrNoTable, without the rights to read it fs.ErrPermission; both say
// what to do.
func Read(fsys fs.FS) (*Table, error) {
	b, err := readLimited(fsys, TableFile, maxTable)
	if err != nil {
		e := &OpError{Op: "read", Target: TableFile, Err: err}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			e.Err = ErrNoTable
			e.Remedy = "enable VT-d in the firmware's setup; a machine that is not Intel's has none, and a guest only with an emulated unit (QEMU: -device intel-iommu)"
		case errors.Is(err, fs.ErrPermission):
			e.Remedy = "run as root"
		}
		return nil, e
	}
	return Parse(b)
}

// readLimited is a file's content, or an error if it has more than limit bytes.
func readLimited(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return b, err
}
