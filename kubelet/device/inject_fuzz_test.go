package device

import (
	"os"
	"path/filepath"
	"testing"

	"sagong/runtime"
)

// Drivers write specifications: whatever they say, a container is refused or has
// whole devices and mounts.
func FuzzInject(f *testing.F) {
	f.Add([]byte(`{"cdiVersion":"0.6.0","kind":"example.com/x","containerEdits":{"env":["A=b"],"additionalGids":[7]},"devices":[{"name":"a","containerEdits":{"deviceNodes":[{"path":"/dev/null","permissions":"rw"}],"mounts":[{"hostPath":"/etc","containerPath":"/x","options":["ro","rslave"]}]}}]}`))
	f.Add([]byte("cdiVersion: 0.3.0\nkind: example.com/x\ndevices: [{name: a, containerEdits: {hooks: [{hookName: createRuntime, path: /x}]}}]\n"))
	f.Add([]byte(`{"cdiVersion":"1.0.0","kind":"example.com/x","devices":[{"name":"a","containerEdits":{"deviceNodes":[null],"mounts":[null],"env":[""],"intelRdt":{},"netDevices":[{"hostInterfaceName":"a","name":"b"}]}},{"name":"a"}]}`))
	f.Fuzz(func(t *testing.T, spec []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.yaml"), spec, 0o600); err != nil {
			t.Fatal(err)
		}
		m := &Manager{cfg: Config{CDI: []string{dir}}}
		c := &runtime.Container{}
		if m.Inject(c, []string{"example.com/x=a"}) != nil {
			return
		}
		for _, d := range c.Devices {
			if d.Source == "" || d.Target == "" {
				t.Errorf("half a device: %+v", d)
			}
		}
		for _, v := range c.Mounts {
			if v.Source == "" || v.Target == "" {
				t.Errorf("half a mount: %+v", v)
			}
		}
	})
}
