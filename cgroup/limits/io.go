package limits

import (
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ioWeight is io.weight of version 2 (1 to 10000) for a weight of version 1 (10 to 1000).
func ioWeight(weight uint16) uint64 {
	if weight < 10 {
		return 0
	}
	return 1 + (uint64(weight)-10)*9999/990
}

// blockIO weighs and throttles devices.
func (k *compiler) blockIO(r *specs.LinuxResources) error {
	b := r.BlockIO
	if b == nil || (value(b.Weight) == 0 && value(b.LeafWeight) == 0 && len(b.WeightDevice)+len(b.ThrottleReadBpsDevice)+
		len(b.ThrottleWriteBpsDevice)+len(b.ThrottleReadIOPSDevice)+len(b.ThrottleWriteIOPSDevice) == 0) {
		return nil
	}
	p, err := k.part("blkio", "blockIO")
	if err != nil {
		return err
	}
	if err := p.weights(b); err != nil {
		return err
	}
	for _, t := range []struct {
		field, v1, v2 string
		list          []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", b.ThrottleWriteIOPSDevice},
	} {
		for i, d := range t.list {
			field := fmt.Sprintf("blockIO.%s[%d]", t.field, i)
			if err := checkDevice(field, d.LinuxBlockIODevice); err != nil {
				return err
			}
			if p.v == V1 {
				p.add(field, t.v1, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate))
				continue
			}
			rate := strconv.FormatUint(d.Rate, 10)
			if d.Rate == 0 {
				rate = "max" // as 0 is on version 1; this one refuses it
			}
			p.add(field, "io.max", fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, t.v2, rate))
		}
	}
	return nil
}

// weights shares out a device by weight. The scheduler bfq has its own files and
// the values of version 1; without it, it is the cost model's, on version 2 only.
func (p part) weights(b *specs.LinuxBlockIO) error {
	if w := value(b.Weight); w != 0 {
		if err := checkWeight("blockIO.weight", w); err != nil {
			return err
		}
		p.weight("blockIO.weight", "", w)
	}
	if w := value(b.LeafWeight); w != 0 {
		if err := checkWeight("blockIO.leafWeight", w); err != nil {
			return err
		}
		p.leafWeight("blockIO.leafWeight", "blkio.leaf_weight", strconv.Itoa(int(w)))
	}
	for i, d := range b.WeightDevice {
		field := fmt.Sprintf("blockIO.weightDevice[%d]", i)
		if err := checkDevice(field, d.LinuxBlockIODevice); err != nil {
			return err
		}
		device := fmt.Sprintf("%d:%d ", d.Major, d.Minor)
		if w := value(d.Weight); w != 0 {
			if err := checkWeight(field+".weight", w); err != nil {
				return err
			}
			p.weight(field+".weight", device, w)
		}
		if w := value(d.LeafWeight); w != 0 {
			if err := checkWeight(field+".leafWeight", w); err != nil {
				return err
			}
			p.leafWeight(field+".leafWeight", "blkio.leaf_weight_device", device+strconv.Itoa(int(w)))
		}
	}
	return nil
}

// weight adds a weight, of all devices or of one.
func (p part) weight(field, device string, weight uint16) {
	same := device + strconv.Itoa(int(weight))
	if p.v == V1 {
		suffix := ""
		if device != "" {
			suffix = "_device"
		}
		other := p.make(field, "blkio.bfq.weight"+suffix, same)
		p.add(field, "blkio.weight"+suffix, same).Else = &other
		return
	}
	other := p.make(field, "io.weight", device+strconv.FormatUint(ioWeight(weight), 10))
	other.Why = fmt.Sprintf("%d of 10 to 1000 is %d of 1 to 10000", weight, ioWeight(weight))
	// runc leaves a device's weight out where there is no bfq; the cost model takes it.
	other.Optional = device != ""
	p.add(field, "io.bfq.weight", same).Else = &other
}

// leafWeight adds a weight against child cgroups, which only the scheduler cfq knew
// (gone with Linux 5.0).
func (p part) leafWeight(field, file, value string) {
	if p.v == V2 {
		p.k.warn("linux.resources."+field, "left out: cgroup version 2 has no leaf weights")
		return
	}
	p.add(field, file, value)
}

func checkWeight(field string, w uint16) error {
	if w < 10 || w > 1000 {
		return fieldErr("linux.resources."+field, "%d is not within 10 to 1000", w)
	}
	return nil
}

func checkDevice(field string, d specs.LinuxBlockIODevice) error {
	if d.Major < 0 || d.Minor < 0 {
		return fieldErr("linux.resources."+field, "%d:%d is no device", d.Major, d.Minor)
	}
	return nil
}
