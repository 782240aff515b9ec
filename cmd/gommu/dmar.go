//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/spf13/cobra"

	"gommu/iommu/dmar"
	"gommu/pci"
)

// dmarReport is what `gommu dmar --json` prints.
type dmarReport struct {
	Table *dmar.Table `json:"table"`

	// Owned has each unit's devices, by the order of Table.Units; null where
	// this machine's devices are not to be asked.
	Owned   [][]pci.Address `json:"owned"`
	Unowned []pci.Address   `json:"unowned"` // devices that no unit translates for
	Skipped []string        `json:"skipped"` // scopes that name nothing in this machine
}

func newDMAR() *cobra.Command {
	var asJSON bool
	var root string
	cmd := &cobra.Command{
		Use:   "dmar [FILE]",
		Short: "Print the ACPI DMAR table: VT-d units, their devices, reserved memory",
		Long: "Print the ACPI DMAR table of this machine (as root) or in a file, and which devices each unit translates for. With a file,\n" +
			"devices are looked up only where --sysfs is given, because the table may be another machine's.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := reportDMAR(root, args, cmd.Flags().Changed("sysfs"))
			if r == nil {
				return err
			}
			var printErr error
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				printErr = enc.Encode(r)
			} else {
				printErr = printDMAR(cmd.OutOrStdout(), r)
			}
			return errors.Join(err, printErr)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&root, "sysfs", "/sys", "where sysfs is mounted")
	return cmd
}

// reportDMAR reads the table of the machine or file, and the owners of the machine's devices. With a table
// whose scopes make no sense there it returns the table and the error.
func reportDMAR(root string, args []string, asked bool) (*dmarReport, error) {
	sysfs := os.DirFS(root)
	var table *dmar.Table
	var err error
	if len(args) == 0 {
		table, err = dmar.Read(sysfs)
	} else {
		var b []byte
		if b, err = os.ReadFile(args[0]); err == nil {
			table, err = dmar.Parse(b)
		}
	}
	if err != nil {
		return nil, err
	}
	r := &dmarReport{Table: table}
	if len(args) > 0 && !asked {
		return r, nil
	}
	infos, err := pci.Sysfs{Root: root}.Scan()
	if err != nil {
		return r, err
	}
	owners, err := table.Resolve(dmar.Sysfs(sysfs))
	if err != nil {
		return r, err
	}
	r.fill(owners, infos, sysfs)
	return r, nil
}

// fill sorts the devices by their unit.
func (r *dmarReport) fill(owners *dmar.Owners, infos []pci.Info, sysfs fs.FS) {
	r.Owned = make([][]pci.Address, len(r.Table.Units))
	for i := range r.Owned {
		r.Owned[i] = []pci.Address{}
	}
	r.Unowned, r.Skipped = []pci.Address{}, []string{}
	for _, i := range infos {
		if unit, ok := owners.Unit(physical(sysfs, i.Address)); ok {
			r.Owned[unit] = append(r.Owned[unit], i.Address)
		} else {
			r.Unowned = append(r.Unowned, i.Address)
		}
	}
	for _, err := range owners.Skipped {
		r.Skipped = append(r.Skipped, err.Error())
	}
}

// physical is the function whose unit translates for the one at addr: its physical function if it is
// a virtual one, else itself.
func physical(sysfs fs.FS, addr pci.Address) pci.Address {
	to, err := fs.ReadLink(sysfs, fmt.Sprintf("bus/pci/devices/%s/physfn", addr))
	if err != nil {
		return addr
	}
	if a, err := pci.ParseAddress(path.Base(to)); err == nil {
		return a
	}
	return addr
}
