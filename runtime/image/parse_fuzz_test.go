package image

import "testing"

// What registries and archives say of an image.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a","digest":"sha256:00","size":1},"layers":[{"digest":"x","size":-1}]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"","platform":null}]}`), "application/vnd.oci.image.index.v1+json")
	f.Add([]byte(`{"schemaVersion":2,"config":null,"layers":[null]}`), "application/vnd.docker.distribution.manifest.v2+json")
	f.Fuzz(func(t *testing.T, data []byte, mediaType string) {
		if m, err := parseManifest(data, mediaType); err == nil && m == nil {
			t.Error("no manifest and no error")
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Entrypoint":["x"],"User":"1:1","Volumes":{"/v":{}}},"rootfs":{"type":"layers","diff_ids":["sha256:0"]}}`))
	f.Add([]byte(`{"config":null,"rootfs":{"type":"layers","diff_ids":[""]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseConfig(data); err == nil && c == nil {
			t.Error("no configuration and no error")
		}
	})
}
