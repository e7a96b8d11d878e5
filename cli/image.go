package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sagong/compose"
)

func imageCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use: "image", Short: "Bring images to this machine's node, list and remove them",
		Example: "  docker save shop:1 | sagong image import -\n  sagong image pull registry.example/shop:1\n  sagong image list",
		Args:    cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the images of this node", Args: cobra.NoArgs, Example: "  sagong image list",
		RunE: func(c *cobra.Command, _ []string) error {
			resp, err := s.agent(c, http.MethodGet, "/images", nil, nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var images []compose.ImageInfo
			if err := json.NewDecoder(resp.Body).Decode(&images); err != nil {
				return fmt.Errorf("cannot read the list of images: %w", err)
			}
			w := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tID\tSIZE")
			for _, im := range images {
				names := im.Names
				if len(names) == 0 {
					names = []string{"<none>"}
				}
				for _, n := range names {
					fmt.Fprintf(w, "%s\t%s\t%s\n", n, short(im.ID), megabytes(im.Size))
				}
			}
			return w.Flush()
		},
	}
	var as string
	imports := &cobra.Command{
		Use: "import FILE|DIRECTORY|- ...", Short: "Import OCI layouts and docker archives, packed or not", Args: cobra.MinimumNArgs(1),
		Example: "  docker save shop:1 | sagong image import -\n  sagong image import shop.tar.gz\n  sagong image import ./oci-layout --as shop:1",
		RunE: func(c *cobra.Command, args []string) error {
			for _, a := range args {
				var body io.Reader
				query := url.Values{"name": {as}}
				if a == "-" {
					body = c.InOrStdin()
				} else {
					info, err := os.Stat(a)
					if err != nil {
						return fmt.Errorf("cannot import: %w", err)
					}
					if info.IsDir() {
						r := tarDirectory(a)
						defer r.Close()
						body = r
					} else {
						f, err := os.Open(a)
						if err != nil {
							return fmt.Errorf("cannot import: %w", err)
						}
						defer f.Close()
						body = f
					}
				}
				if err := s.printLines(c, http.MethodPost, "/images/import", query, body, "Imported"); err != nil {
					return fmt.Errorf("cannot import %s: %w", a, err)
				}
			}
			return nil
		},
	}
	imports.Flags().StringVar(&as, "as", "", "name for an image that has none in the archive")
	pull := &cobra.Command{
		Use: "pull IMAGE ...", Short: "Pull images from their registry", Args: cobra.MinimumNArgs(1), Example: "  sagong image pull registry.example/shop:1",
		RunE: func(c *cobra.Command, args []string) error {
			for _, a := range args {
				if err := s.printLines(c, http.MethodPost, "/images/pull", url.Values{"name": {a}}, nil, "Pulled"); err != nil {
					return err
				}
			}
			return nil
		},
	}
	var file string
	export := &cobra.Command{
		Use: "export IMAGE ...", Short: "Write images as an OCI layout in a tar file", Args: cobra.MinimumNArgs(1), Example: "  sagong image export shop:1 -o shop.tar",
		RunE: func(c *cobra.Command, args []string) error {
			resp, err := s.agent(c, http.MethodGet, "/images/export", url.Values{"name": args}, nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			out := s.out
			if file != "-" {
				f, err := os.Create(file)
				if err != nil {
					return fmt.Errorf("cannot export: %w", err)
				}
				defer f.Close()
				out = f
			}
			if _, err := io.Copy(out, resp.Body); err != nil {
				return fmt.Errorf("cannot export: %w", err)
			}
			return nil
		},
	}
	export.Flags().StringVarP(&file, "output", "o", "-", "file to write; - is standard output")
	remove := &cobra.Command{
		Use: "remove IMAGE ...", Aliases: []string{"rm"}, Short: "Remove images from this node", Args: cobra.MinimumNArgs(1), Example: "  sagong image remove shop:1",
		RunE: func(c *cobra.Command, args []string) error {
			for _, a := range args {
				if err := s.printLines(c, http.MethodDelete, "/images", url.Values{"name": {a}}, nil, "Removed"); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.AddCommand(list, imports, pull, export, remove)
	return c
}

// agent asks the agent of this machine's node, over the socket that only root
// may open.
func (s *session) agent(c *cobra.Command, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	cfg, err := savedSettings(s.name, dataDirOf(s.name))
	if err != nil {
		return nil, err
	}
	resp, err := compose.AskAgent(c.Context(), cfg, method, path, query, body)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the node agent of cluster %s: %w; start it with 'sagong up --name %[1]s'", s.name, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	return resp, nil
}

// printLines shows the answer's lines, the names of images, as they come.
func (s *session) printLines(c *cobra.Command, method, path string, query url.Values, body io.Reader, verb string) error {
	begin := time.Now()
	resp, err := s.agent(c, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var line compose.ImageProgress
		if err := dec.Decode(&line); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("the agent's answer broke off: %w", err)
		}
		switch {
		case line.Error != "":
			return fmt.Errorf("%s", line.Error)
		case line.Image != "":
			fmt.Fprintf(s.out, "%s %s in %.1f s\n", verb, line.Image, time.Since(begin).Seconds())
		case line.Total > 0:
			fmt.Fprintf(s.err, "  %s of %s\n", megabytes(line.Done), megabytes(line.Total))
		}
	}
}

func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
