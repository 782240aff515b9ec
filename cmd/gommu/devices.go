//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gommu/pci"
)

// A device is a PCI function as `gommu devices --json` prints it.
type device struct {
	pci.Info
	VendorName string `json:"vendor_name,omitempty"`
	DeviceName string `json:"device_name,omitempty"`
	ClassName  string `json:"class_name,omitempty"`
}

func newDevices() *cobra.Command {
	var asJSON bool
	var root string
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List PCI functions with their IOMMU groups and drivers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			devices, err := listDevices(pci.Sysfs{Root: root})
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(devices)
			}
			return printDevices(cmd.OutOrStdout(), devices)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	cmd.Flags().StringVar(&root, "sysfs", "/sys", "where sysfs is mounted")
	return cmd
}

// listDevices lists the functions, named as far as this machine has a pci.ids.
func listDevices(sysfs pci.Sysfs) ([]device, error) {
	infos, err := sysfs.Scan()
	if err != nil {
		return nil, err
	}
	names, err := pci.LoadNames()
	if err != nil {
		return nil, err
	}
	devices := make([]device, 0, len(infos))
	for _, i := range infos {
		devices = append(devices, device{
			Info:       i,
			VendorName: names.Vendor(i.Vendor),
			DeviceName: names.Device(i.Vendor, i.Device),
			ClassName:  names.Class(i.Class),
		})
	}
	return devices, nil
}

func printDevices(w io.Writer, devices []device) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "ADDRESS\tGROUP\tDRIVER\tID\tCLASS\tNAME")
	for _, d := range devices {
		group, driver := "-", d.Driver
		if d.Group >= 0 {
			group = strconv.Itoa(d.Group)
		}
		if driver == "" {
			driver = "-"
		}
		class := d.ClassName
		if class == "" {
			class = fmt.Sprintf("%06x", d.Class)
		}
		name := d.VendorName
		if d.DeviceName != "" {
			name += " " + d.DeviceName
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%04x:%04x\t%s\t%s\n", d.Address, group, driver, d.Vendor, d.Device, class, name)
	}
	return t.Flush()
}
