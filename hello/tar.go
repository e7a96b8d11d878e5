package hello

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Tar is as much of tar(1) as `kubectl cp` needs of a container: "tar cf -
// [-C DIR] PATH..." and "tar xf - [-C DIR]", through standard output and
// input, with the options m (do not keep times), o, p and v.
func Tar(args []string) int {
	return tarCommand(args, os.Stdin, os.Stdout, os.Stderr)
}

func tarCommand(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parseTar(args)
	if err == nil {
		if o.create {
			err = o.pack(stdout)
		} else {
			err = o.unpack(stdin)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "tar:", err)
		return 2
	}
	return 0
}

// tarOptions are the options understood.
type tarOptions struct {
	create, extract, now bool
	dir                  string
	paths                []string
}

func parseTar(args []string) (o tarOptions, err error) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		next := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			err = fmt.Errorf("option %s wants a value", a)
			return ""
		}
		switch {
		case a == "--":
			o.paths = append(o.paths, args[i+1:]...)
			i = len(args)
		case !strings.HasPrefix(a, "--") && (i == 0 || strings.HasPrefix(a, "-") && len(a) > 1):
			for _, c := range strings.TrimPrefix(a, "-") {
				switch c {
				case 'c':
					o.create = true
				case 'x':
					o.extract = true
				case 'm':
					o.now = true
				case 'p', 'v', 'o':
				case 'f':
					if f := next(); err == nil && f != "-" {
						err = fmt.Errorf("only standard input and output are supported, not %q", f)
					}
				case 'C':
					o.dir = next()
				default:
					err = fmt.Errorf("option %c is not supported", c)
				}
			}
		case a == "--no-same-owner" || a == "--no-same-permissions":
		case strings.HasPrefix(a, "--"):
			err = fmt.Errorf("option %s is not supported", a)
		default:
			o.paths = append(o.paths, a)
		}
		if err != nil {
			return o, err
		}
	}
	if o.create == o.extract {
		return o, errors.New("one of c and x is needed")
	}
	if o.create && len(o.paths) == 0 {
		return o, errors.New("nothing to pack")
	}
	return o, nil
}

// pack writes the paths and what is below them.
func (o *tarOptions) pack(w io.Writer) error {
	tw := tar.NewWriter(w)
	var failed error
	for _, top := range o.paths {
		at := top
		if o.dir != "" && !filepath.IsAbs(at) {
			at = filepath.Join(o.dir, at)
		}
		err := filepath.WalkDir(at, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				failed = errors.Join(failed, err)
				return nil
			}
			rel, err := filepath.Rel(at, p)
			if err != nil {
				return err
			}
			return packOne(tw, p, strings.TrimLeft(filepath.Join(top, rel), "/"), d)
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(failed, tw.Close())
}

func packOne(tw *tar.Writer, p, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if info.Mode()&(fs.ModeSocket|fs.ModeDevice|fs.ModeNamedPipe) != 0 {
		return nil
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name = name
	if info.IsDir() {
		h.Name += "/"
	}
	if !info.Mode().IsRegular() {
		return tw.WriteHeader(h)
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	// A file that grows meanwhile must not break the archive.
	_, err = io.CopyN(tw, f, h.Size)
	return err
}

// unpack writes what the archive holds below the directory, and never outside.
func (o *tarOptions) unpack(r io.Reader) error {
	dir := o.dir
	if dir == "" {
		dir = "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := o.unpackOne(root, h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func (o *tarOptions) unpackOne(root *os.Root, h *tar.Header, body io.Reader) error {
	name := strings.TrimLeft(filepath.Clean(h.Name), "/")
	if name == "" || name == "." {
		return nil
	}
	mode := fs.FileMode(h.Mode & 0o777)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, mode|0o700); err != nil {
			return err
		}
		return root.Chmod(name, mode)
	case tar.TypeSymlink:
		root.Remove(name)
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		root.Remove(name)
		return root.Link(strings.TrimLeft(filepath.Clean(h.Linkname), "/"), name)
	case tar.TypeReg:
		root.Remove(name)
		f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		if e := f.Chmod(mode); err == nil {
			err = e
		}
		if e := f.Close(); err == nil {
			err = e
		}
		if err == nil && !o.now {
			err = root.Chtimes(name, h.ModTime, h.ModTime)
		}
		return err
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("entry of type %q is not supported", h.Typeflag)
}
