package admission

import kresource "k8s.io/apimachinery/pkg/api/resource"

// Ratio is ratio, for its fuzz target.
func Ratio(limit, request, bound kresource.Quantity) (string, bool) {
	return ratio(limit, request, bound)
}
