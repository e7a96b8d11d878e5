package kubelet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	kresource "sagong/kubelet/resource"
)

// Machine is what the node status says about the machine.
type Machine struct {
	Info     corev1.NodeSystemInfo
	Capacity corev1.ResourceList
}

// readMachine looks at the machine once; none of it changes while it runs,
// except huge pages and the disk, which are read again with each status.
func readMachine(cfg Config, runtimeVersion string) (Machine, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Machine{}, fmt.Errorf("cannot read the kernel's version: %w", err)
	}
	mem, err := kresource.ReadMemory()
	if err != nil {
		return Machine{}, err
	}
	m := Machine{Info: corev1.NodeSystemInfo{
		MachineID: line("/etc/machine-id"), SystemUUID: line("/sys/class/dmi/id/product_uuid"),
		BootID: line("/proc/sys/kernel/random/boot_id"), KernelVersion: unix.ByteSliceToString(u.Release[:]),
		OSImage: osImage(), ContainerRuntimeVersion: runtimeVersion,
		KubeletVersion: cfg.Version, KubeProxyVersion: "",
		OperatingSystem: goruntime.GOOS, Architecture: goruntime.GOARCH,
		RunningInUserNamespace: new(userNamespace(line("/proc/self/uid_map"))),
	}}
	if m.Info.MachineID == "" {
		m.Info.MachineID = strings.ReplaceAll(m.Info.BootID, "-", "")
	}
	if m.Info.SystemUUID == "" {
		m.Info.SystemUUID = m.Info.MachineID
	}
	if mem.Swap > 0 {
		m.Info.Swap = &corev1.NodeSwapStatus{Capacity: &mem.Swap}
	}
	m.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(mem.Total, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(cfg.MaxPods, resource.DecimalSI),
	}
	if fs, err := kresource.ReadDisk(cfg.Dir); err == nil {
		m.Capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(fs.Total, resource.BinarySI)
	}
	for size, n := range hugePages() {
		m.Capacity[corev1.ResourceName(corev1.ResourceHugePagesPrefix+size)] = *resource.NewQuantity(n, resource.BinarySI)
	}
	return m, nil
}

// userNamespace tells from its map of users whether a process is in a namespace of
// users other than the machine's own.
func userNamespace(uidMap string) bool {
	f := strings.Fields(uidMap)
	return len(f) == 3 && !(f[0] == "0" && f[1] == "0" && f[2] == "4294967295")
}

// allocatable is what pods may use: capacity without what is reserved and
// without what must stay free lest pods be evicted.
func allocatable(capacity corev1.ResourceList, cfg Config) corev1.ResourceList {
	out := corev1.ResourceList{}
	for n, q := range capacity {
		v := q.DeepCopy()
		if r, ok := cfg.Reserved[n]; ok {
			v.Sub(r)
		}
		switch n {
		case corev1.ResourceMemory:
			v.Sub(*resource.NewQuantity(cfg.Resource.MemoryAvailable, resource.BinarySI))
			for h, hq := range capacity {
				if strings.HasPrefix(string(h), corev1.ResourceHugePagesPrefix) {
					v.Sub(hq)
				}
			}
		case corev1.ResourceEphemeralStorage:
			v.Sub(*resource.NewQuantity(int64(float64(q.Value())*cfg.Resource.NodefsAvailable), resource.BinarySI))
			v = *resource.NewQuantity(v.Value(), resource.DecimalSI)
		}
		if v.Sign() < 0 {
			v = *resource.NewQuantity(0, v.Format)
		}
		out[n] = v
	}
	return out
}

// line is the first line of a file, or nothing.
func line(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	return strings.TrimSpace(string(first))
}

// hugePages is the machine's memory in huge pages, by their size as resource
// names have it.
func hugePages() map[string]int64 {
	out := map[string]int64{}
	dirs, _ := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-*kB")
	for _, d := range dirs {
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(d), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(line(filepath.Join(d, "nr_hugepages")), 10, 64)
		if err != nil {
			continue
		}
		out[resource.NewQuantity(kb<<10, resource.BinarySI).String()] = n * kb << 10
	}
	return out
}

// osImage is the distribution's full name.
func osImage() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for l := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(l), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Linux"
}
