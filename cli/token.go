package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"sagong/apiserver/authn"
	"sagong/compose"
	"sagong/config"
	"sagong/lib/pki"
)

func tokenCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use: "token", Short: "Make, list and revoke the tokens by which nodes join",
		Example: "  sagong token create\n  sagong token list",
		Args:    cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var life time.Duration
	var description string
	create := &cobra.Command{
		Use: "create", Short: "Make a token and print the command that joins a node", Args: cobra.NoArgs,
		Example: "  sagong token create\n  sagong token create --ttl 1h --description rack-4",
		RunE: func(c *cobra.Command, _ []string) error {
			api, cfg, err := s.connect()
			if err != nil {
				return err
			}
			if life < 0 {
				return fmt.Errorf("cannot make a token that lives %s: --ttl must not be negative", life)
			}
			token, secret := authn.NewBootstrapToken(description, life, time.Now())
			if _, err := api.CoreV1().Secrets(secret.Namespace).Create(c.Context(), secret, metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("cannot store the token: %w", err)
			}
			ca, err := os.ReadFile(filepath.Join(compose.PKIDir(cfg), "ca.crt"))
			if err != nil {
				return fmt.Errorf("cannot read the cluster's authority: %w", err)
			}
			cert, err := pki.ParseCertificate(ca)
			if err != nil {
				return fmt.Errorf("cannot read the cluster's authority: %w", err)
			}
			fmt.Fprintf(s.out, "sagong agent --server https://%s --token %s --ca-hash %s\n", compose.AdvertisedAPI(cfg), token, pki.PublicKeyHash(cert))
			return nil
		},
	}
	create.Flags().DurationVar(&life, "ttl", 24*time.Hour, "how long the token is good for; 0 means for ever")
	create.Flags().StringVar(&description, "description", "", "what the token is for")
	list := &cobra.Command{
		Use: "list", Short: "List the tokens", Args: cobra.NoArgs, Example: "  sagong token list",
		RunE: func(c *cobra.Command, _ []string) error {
			api, _, err := s.connect()
			if err != nil {
				return err
			}
			secrets, err := api.CoreV1().Secrets(metav1.NamespaceSystem).List(c.Context(), metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken)})
			if err != nil {
				return fmt.Errorf("cannot list the tokens: %w", err)
			}
			w := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tEXPIRES\tDESCRIPTION")
			for _, x := range secrets.Items {
				expires := string(x.Data["expiration"])
				if expires == "" {
					expires = "never"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", x.Data["token-id"], expires, x.Data["description"])
			}
			return w.Flush()
		},
	}
	revoke := &cobra.Command{
		Use: "revoke ID|TOKEN", Short: "Make a token invalid", Args: cobra.ExactArgs(1), Example: "  sagong token revoke abcdef",
		RunE: func(c *cobra.Command, args []string) error {
			api, _, err := s.connect()
			if err != nil {
				return err
			}
			id, _, _ := strings.Cut(args[0], ".")
			if err := api.CoreV1().Secrets(metav1.NamespaceSystem).Delete(c.Context(), "bootstrap-token-"+id, metav1.DeleteOptions{}); err != nil {
				return fmt.Errorf("cannot revoke token %s: %w", id, err)
			}
			fmt.Fprintf(s.out, "Token %s is revoked.\n", id)
			return nil
		},
	}
	c.AddCommand(create, list, revoke)
	return c
}

// connect speaks to the named cluster as its administrator.
func (s *session) connect() (*kubernetes.Clientset, config.Config, error) {
	dir := dataDirOf(s.name)
	cfg, err := savedSettings(s.name, dir)
	if err != nil {
		return nil, cfg, err
	}
	if err := pointAt(s.name, nil); err != nil {
		return nil, cfg, err
	}
	restConfig, err := clientcmd.BuildConfigFromFlags("", kubeconfigPath(dir))
	if err != nil {
		return nil, cfg, fmt.Errorf("cannot read the cluster's kubeconfig: %w", err)
	}
	api, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return nil, cfg, fmt.Errorf("cannot reach the cluster: %w", err)
	}
	return api, cfg, nil
}
