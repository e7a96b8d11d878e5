package device

import (
	"fmt"
	"slices"
	"strings"

	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/specs-go"

	"sagong/runtime"
)

// Inject gives a container devices by their names in CDI: device nodes, mounts,
// variables and groups, as the specifications on the node say. What this node's
// runtime cannot do is an error.
func (m *Manager) Inject(c *runtime.Container, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	dirs := m.cfg.CDI
	if dirs == nil {
		dirs = []string{"/etc/cdi", "/var/run/cdi"}
	}
	// Drivers write specifications while they prepare: what counts is what is
	// there now.
	known, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return fmt.Errorf("cannot read the devices of this node: %w", err)
	}
	var specs []*cdi.Spec
	var missing []string
	for _, id := range ids {
		d := known.GetDevice(id)
		if d == nil {
			missing = append(missing, id)
			continue
		}
		if s := d.GetSpec(); !slices.Contains(specs, s) {
			specs = append(specs, s)
			if err := edit(c, &s.ContainerEdits); err != nil {
				return fmt.Errorf("cannot inject device %s: %w", id, err)
			}
		}
		if err := edit(c, &d.ContainerEdits); err != nil {
			return fmt.Errorf("cannot inject device %s: %w", id, err)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("CDI device injection failed: unresolvable CDI devices %s", strings.Join(missing, ", "))
	}
	return nil
}

func edit(c *runtime.Container, e *specs.ContainerEdits) error {
	switch {
	case len(e.Hooks) > 0:
		return fmt.Errorf("it needs a %s hook, which this node's runtime does not run", e.Hooks[0].HookName)
	case e.IntelRdt != nil:
		return fmt.Errorf("it needs Intel RDT, which this node's runtime does not set up")
	case len(e.NetDevices) > 0:
		return fmt.Errorf("it moves network devices, which this node's runtime does not do")
	}
	for _, v := range e.Env {
		name, _, _ := strings.Cut(v, "=")
		c.Env = append(slices.DeleteFunc(slices.Clone(c.Env), func(o string) bool { return strings.HasPrefix(o, name+"=") }), v)
	}
	for _, d := range e.DeviceNodes {
		x := runtime.Device{Source: d.HostPath, Target: d.Path, Access: d.Permissions}
		if x.Source == "" {
			x.Source = d.Path
		}
		c.Devices = append(slices.DeleteFunc(c.Devices, func(o runtime.Device) bool { return o.Target == x.Target }), x)
	}
	for _, mnt := range e.Mounts {
		x := runtime.Mount{Source: mnt.HostPath, Target: mnt.ContainerPath}
		for _, o := range mnt.Options {
			switch o {
			case "ro":
				x.ReadOnly = true
			case "noexec":
				x.NoExec = true
			case "nosuid":
				x.NoSuid = true
			case "nodev":
				x.NoDev = true
			case "rslave", "slave":
				x.Propagation = runtime.PropagationHostToContainer
			case "rshared", "shared":
				x.Propagation = runtime.PropagationBidirectional
			case "bind", "rbind", "rw", "private", "rprivate", "relatime", "noatime", "exec", "suid", "dev":
			default:
				return fmt.Errorf("it mounts %s with the option %q, which this node's runtime does not know", mnt.HostPath, o)
			}
		}
		if mnt.Type != "" && mnt.Type != "bind" && mnt.Type != "none" {
			return fmt.Errorf("it mounts a file system of type %q, which this node's runtime does not do", mnt.Type)
		}
		c.Mounts = append(slices.DeleteFunc(c.Mounts, func(o runtime.Mount) bool { return o.Target == x.Target }), x)
	}
	for _, g := range e.AdditionalGIDs {
		if g != 0 && !slices.Contains(c.User.Groups, g) {
			c.User.Groups = append(c.User.Groups, g)
		}
	}
	return nil
}
