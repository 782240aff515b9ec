package vfio

import "structs"

// Numbers of include/uapi/linux/vfio.h. The requests are _IO(';', 100 + n): they carry no size.
const (
	ioctlGetAPIVersion     = 0x3b64
	ioctlCheckExtension    = 0x3b65
	ioctlSetIOMMU          = 0x3b66
	ioctlGroupGetStatus    = 0x3b67
	ioctlGroupSetContainer = 0x3b68
	ioctlGroupUnset        = 0x3b69
	ioctlGroupGetDeviceFD  = 0x3b6a
	ioctlDeviceGetInfo     = 0x3b6b
	ioctlDeviceGetRegion   = 0x3b6c
	ioctlDeviceGetIRQ      = 0x3b6d
	ioctlDeviceSetIRQs     = 0x3b6e
	ioctlDeviceReset       = 0x3b6f
	ioctlIOMMUGetInfo      = 0x3b70
	ioctlIOMMUMapDMA       = 0x3b71
	ioctlIOMMUUnmapDMA     = 0x3b72

	apiVersion = 0 // VFIO_API_VERSION

	extType1v2  = 3 // VFIO_TYPE1v2_IOMMU
	extUnmapAll = 9 // VFIO_UNMAP_ALL

	groupViable       = 1 << 0 // VFIO_GROUP_FLAGS_VIABLE
	groupContainerSet = 1 << 1 // VFIO_GROUP_FLAGS_CONTAINER_SET

	deviceFlagReset = 1 << 0 // VFIO_DEVICE_FLAGS_RESET
	deviceFlagPCI   = 1 << 1 // VFIO_DEVICE_FLAGS_PCI

	regionRead  = 1 << 0 // VFIO_REGION_INFO_FLAG_READ
	regionWrite = 1 << 1
	regionMmap  = 1 << 2
	regionCaps  = 1 << 3

	regionCapSparse       = 1 // VFIO_REGION_INFO_CAP_SPARSE_MMAP
	regionCapType         = 2
	regionCapMSIXMappable = 3

	regionConfig = 7 // VFIO_PCI_CONFIG_REGION_INDEX

	irqEventFD    = 1 << 0 // VFIO_IRQ_INFO_EVENTFD
	irqMaskable   = 1 << 1
	irqAutomasked = 1 << 2
	irqNoResize   = 1 << 3

	irqDataNone      = 1 << 0 // VFIO_IRQ_SET_DATA_NONE
	irqDataEventFD   = 1 << 2
	irqActionMask    = 1 << 3
	irqActionUnmask  = 1 << 4
	irqActionTrigger = 1 << 5

	iommuInfoPageSizes = 1 << 0 // VFIO_IOMMU_INFO_PGSIZES
	iommuInfoCaps      = 1 << 1

	iommuCapIOVARange = 1 // VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE
	iommuCapDMAAvail  = 3 // VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL

	dmaUnmapAll = 1 << 1 // VFIO_DMA_UNMAP_FLAG_ALL
)

// infoCapHeader is struct vfio_info_cap_header.
type infoCapHeader struct {
	_       structs.HostLayout
	id      uint16
	version uint16
	next    uint32 // offset in the whole answer, 0 at the end
}

// groupStatus is struct vfio_group_status.
type groupStatus struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32
}

// deviceInfo is struct vfio_device_info.
type deviceInfo struct {
	_          structs.HostLayout
	argsz      uint32
	flags      uint32
	numRegions uint32
	numIRQs    uint32
	capOffset  uint32
}

// regionInfo is struct vfio_region_info.
type regionInfo struct {
	_         structs.HostLayout
	argsz     uint32
	flags     uint32
	index     uint32
	capOffset uint32
	size      uint64
	offset    uint64 // of the region in the device's file
}

// sparseMmap is struct vfio_region_info_cap_sparse_mmap up to its areas.
type sparseMmap struct {
	_        structs.HostLayout
	header   infoCapHeader
	nrAreas  uint32
	reserved uint32
}

// sparseArea is struct vfio_region_sparse_mmap_area.
type sparseArea struct {
	_      structs.HostLayout
	offset uint64
	size   uint64
}

// regionType is struct vfio_region_info_cap_type.
type regionType struct {
	_       structs.HostLayout
	header  infoCapHeader
	typ     uint32
	subtype uint32
}

// irqInfo is struct vfio_irq_info.
type irqInfo struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32
	index uint32
	count uint32
}

// irqSet is struct vfio_irq_set up to its data.
type irqSet struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32
	index uint32
	start uint32
	count uint32
}

// iommuInfo is struct vfio_iommu_type1_info.
type iommuInfo struct {
	_         structs.HostLayout
	argsz     uint32
	flags     uint32
	pageSizes uint64
	capOffset uint32
	pad       uint32
}

// iovaRanges is struct vfio_iommu_type1_info_cap_iova_range up to its ranges.
type iovaRanges struct {
	_        structs.HostLayout
	header   infoCapHeader
	nr       uint32
	reserved uint32
}

// iovaRange is struct vfio_iova_range.
type iovaRange struct {
	_     structs.HostLayout
	start uint64
	end   uint64 // inclusive
}

// dmaAvail is struct vfio_iommu_type1_info_dma_avail.
type dmaAvail struct {
	_      structs.HostLayout
	header infoCapHeader
	avail  uint32
}

// dmaMap is struct vfio_iommu_type1_dma_map.
type dmaMap struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32
	vaddr uint64
	iova  uint64
	size  uint64
}

// dmaUnmap is struct vfio_iommu_type1_dma_unmap up to its data.
type dmaUnmap struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32
	iova  uint64
	size  uint64
}
