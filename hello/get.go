package hello

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Get is the client `hello get [options] URL...`: it prints what each URL
// answers. The exit code is 0 if every answer was a success, 1 if one was not,
// 2 if the arguments make no sense. Names are resolved as /etc/hosts and
// /etc/resolv.conf say.
func Get(args []string) int {
	return get(context.Background(), args, os.Stdout, os.Stderr)
}

// headers collects -H options.
type headers http.Header

func (h headers) String() string { return "" }

func (h headers) Set(s string) error {
	name, value, ok := strings.Cut(s, ":")
	if !ok || name == "" {
		return fmt.Errorf("want NAME: VALUE")
	}
	http.Header(h).Add(name, strings.TrimSpace(value))
	return nil
}

func get(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("hello get", flag.ContinueOnError)
	flags.SetOutput(stderr)
	header := http.Header{}
	asJSON := flags.Bool("json", false, "ask for JSON")
	count := flags.Int("n", 1, "how many times to ask, each on a connection of its own")
	timeout := flags.Duration("t", 10*time.Second, "how long one answer may take")
	insecure := flags.Bool("k", false, "accept any certificate")
	method := flags.String("X", "GET", "the method")
	data := flags.String("d", "", "the body to send")
	flags.Var(headers(header), "H", "a header, NAME: VALUE (may be repeated)")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: hello get [options] URL...")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err == flag.ErrHelp {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return 2
	}
	if *asJSON {
		header.Set("Accept", "application/json")
	}
	client := &http.Client{Timeout: *timeout, Transport: &http.Transport{
		DialContext:       (&net.Dialer{Resolver: &net.Resolver{PreferGo: true}}).DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: *insecure},
		DisableKeepAlives: true,
	}}
	code := 0
	for range *count {
		for _, u := range flags.Args() {
			if !strings.Contains(u, "://") {
				u = "http://" + u
			}
			if err := fetch(ctx, client, *method, u, *data, header, stdout); err != nil {
				fmt.Fprintln(stderr, "hello:", err)
				code = 1
			}
		}
	}
	return code
}

// fetch prints one answer.
func fetch(ctx context.Context, client *http.Client, method, url, data string, header http.Header, out io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(data))
	if err != nil {
		return err
	}
	req.Header = header.Clone()
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("%s %q: %w", method, url, err)
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %q: %s", method, url, resp.Status)
	}
	return nil
}
