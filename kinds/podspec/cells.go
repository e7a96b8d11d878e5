package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Names joins the names of containers for a table cell.
func Names(containers []corev1.Container) string {
	s := make([]string, len(containers))
	for i := range containers {
		s[i] = containers[i].Name
	}
	return strings.Join(s, ",")
}

// Images joins the images of containers for a table cell.
func Images(containers []corev1.Container) string {
	s := make([]string, len(containers))
	for i := range containers {
		s[i] = containers[i].Image
	}
	return strings.Join(s, ",")
}

// The descriptions of the columns made of Names and Images.
const (
	NamesDoc  = "Names of each container in the template."
	ImagesDoc = "Images referenced by each container in the template."
)
