package script

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// busybox FILE IMAGE: writes a docker archive of an image made of this machine's
// busybox, with all its applets, as users get one from 'docker save'.
func busybox(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: busybox FILE IMAGE")
	}
	img, err := busyboxImage()
	ts.Check(err)
	tag, err := name.NewTag(args[1])
	ts.Check(err)
	ts.Check(tarball.WriteToFile(ts.MkAbs(args[0]), tag, img))
}

// push IMAGE USER PASSWORD: puts the busybox image into a registry.
func push(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: push IMAGE USER PASSWORD")
	}
	img, err := busyboxImage()
	ts.Check(err)
	ref, err := name.ParseReference(args[0], name.Insecure)
	ts.Check(err)
	ts.Check(remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: args[1], Password: args[2]})))
}

func busyboxImage() (v1.Image, error) {
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	put := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err == nil {
			err = w.WriteHeader(&h)
		}
		if err == nil {
			_, err = w.Write(data)
		}
	}
	for _, d := range []string{"bin/", "etc/", "tmp/"} {
		put(tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o777}, nil)
	}
	put(tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/sh\nguest:x:1000:2000:guest:/tmp:/bin/sh\n"))
	put(tar.Header{Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\nguests:x:2000:\nextra:x:3000:guest\n"))
	put(tar.Header{Name: "bin/busybox", Mode: 0o755}, program)
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			put(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	return mutate.Config(img, v1.Config{Env: []string{"PATH=/bin", "FROM_IMAGE=yes"}, Cmd: []string{"/bin/sh"}, WorkingDir: "/tmp"})
}
