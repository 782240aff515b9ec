package vfio

import (
	"reflect"
	"testing"
)

// TestLayout compares sizes and offsets with what gcc says of include/uapi/linux/vfio.h.
func TestLayout(t *testing.T) {
	tests := []struct {
		v       any
		size    uintptr
		offsets map[string]uintptr
	}{
		{infoCapHeader{}, 8, map[string]uintptr{"id": 0, "version": 2, "next": 4}},
		{groupStatus{}, 8, map[string]uintptr{"argsz": 0, "flags": 4}},
		{deviceInfo{}, 20, map[string]uintptr{"argsz": 0, "flags": 4, "numRegions": 8, "numIRQs": 12, "capOffset": 16}},
		{regionInfo{}, 32, map[string]uintptr{"argsz": 0, "flags": 4, "index": 8, "capOffset": 12, "size": 16, "offset": 24}},
		{sparseMmap{}, 16, map[string]uintptr{"header": 0, "nrAreas": 8, "reserved": 12}},
		{sparseArea{}, 16, map[string]uintptr{"offset": 0, "size": 8}},
		{regionType{}, 16, map[string]uintptr{"header": 0, "typ": 8, "subtype": 12}},
		{irqInfo{}, 16, map[string]uintptr{"argsz": 0, "flags": 4, "index": 8, "count": 12}},
		{irqSet{}, 20, map[string]uintptr{"argsz": 0, "flags": 4, "index": 8, "start": 12, "count": 16}},
		{iommuInfo{}, 24, map[string]uintptr{"argsz": 0, "flags": 4, "pageSizes": 8, "capOffset": 16}},
		{iovaRanges{}, 16, map[string]uintptr{"header": 0, "nr": 8, "reserved": 12}},
		{iovaRange{}, 16, map[string]uintptr{"start": 0, "end": 8}},
		{dmaAvail{}, 12, map[string]uintptr{"header": 0, "avail": 8}},
		{dmaMap{}, 32, map[string]uintptr{"argsz": 0, "flags": 4, "vaddr": 8, "iova": 16, "size": 24}},
		{dmaUnmap{}, 24, map[string]uintptr{"argsz": 0, "flags": 4, "iova": 8, "size": 16}},
	}
	for _, tt := range tests {
		typ := reflect.TypeOf(tt.v)
		if typ.Size() != tt.size {
			t.Errorf("%s has %d bytes, want %d", typ.Name(), typ.Size(), tt.size)
		}
		if typ.Field(0).Type.String() != "structs.HostLayout" {
			t.Errorf("%s does not have the host's layout", typ.Name())
		}
		for name, want := range tt.offsets {
			f, ok := typ.FieldByName(name)
			if !ok || f.Offset != want {
				t.Errorf("%s.%s lies at %d, want %d", typ.Name(), name, f.Offset, want)
			}
		}
	}
}

func TestRequests(t *testing.T) {
	requests := []int{
		ioctlGetAPIVersion, ioctlCheckExtension, ioctlSetIOMMU, ioctlGroupGetStatus, ioctlGroupSetContainer, ioctlGroupUnset, ioctlGroupGetDeviceFD,
		ioctlDeviceGetInfo, ioctlDeviceGetRegion, ioctlDeviceGetIRQ, ioctlDeviceSetIRQs, ioctlDeviceReset, ioctlIOMMUGetInfo, ioctlIOMMUMapDMA, ioctlIOMMUUnmapDMA,
	}
	for n, r := range requests {
		if want := ';'<<8 | (100 + n); r != want {
			t.Errorf("request %d is %#x, want %#x", n, r, want)
		}
	}
}
