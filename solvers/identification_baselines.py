"""What one does without rank tests: trees from distances of two leaves each, always binary and without any confidence."""

from typing import Any

import numpy as np
from scipy.cluster.hierarchy import average, to_tree
from scipy.spatial.distance import squareform

from solvers.leaf_table import LeafTable
from theory.results import Array


def information_distances(table: LeafTable) -> Array:
    """−Σ log of the singular values of the scaled tables of two leaves, (n, n).

    The log-determinant distance, additive along a tree whose variables all have as many states (Choi et al. 2011, §2);
    singular values below 1/√n, which are noise, count as 1/√n.
    """
    n = len(table.names)
    distances = np.zeros((n, n))
    for a, b in table.pairs:
        joint = table.tables([((a,), (b,))])[0]
        joint = joint / joint.sum()
        margins = np.sqrt(np.outer(joint.sum(axis=1), joint.sum(axis=0)))
        scaled = np.divide(joint, margins, out=np.zeros_like(joint), where=margins > 0)
        values = np.clip(np.linalg.svd(scaled, compute_uv=False), 1 / np.sqrt(min(table.samples, 1e12)), 1)
        distances[a, b] = distances[b, a] = -np.log(values).sum()
    return distances


def average_linkage(table: LeafTable, directed: bool) -> Any:
    """Average linkage of the information distances (scipy), as parent -> child or, without its root, undirected."""
    import networkx as nx

    n = len(table.names)
    root = to_tree(average(squareform(information_distances(table), checks=False)))
    graph = nx.DiGraph()
    stack = [root]
    while stack:
        node = stack.pop()
        for child in (node.left, node.right):
            graph.add_edge(f"h{node.id}", table.names[child.id] if child.id < n else f"h{child.id}")
            if child.id >= n:
                stack.append(child)
    if directed:
        return graph
    top = f"h{root.id}"
    ends = list(graph.successors(top))
    graph.remove_node(top)
    tree = graph.to_undirected()
    tree.add_edge(*ends)
    return tree


def neighbour_joining(table: LeafTable) -> Any:
    """The undirected tree of neighbour joining (Saitou & Nei 1987): the pair with least (m−2) d_ij − r_i − r_j is joined."""
    import networkx as nx

    distances, nodes = information_distances(table), list(table.names)
    graph = nx.Graph()
    while len(nodes) > 3:
        m, sums = len(nodes), distances.sum(axis=1)
        criterion = (m - 2) * distances - sums[:, None] - sums[None, :]
        np.fill_diagonal(criterion, np.inf)
        i, j = sorted(int(k) for k in np.unravel_index(np.argmin(criterion), criterion.shape))
        new = f"h{graph.number_of_nodes() + 1}"
        graph.add_edges_from([(new, nodes[i]), (new, nodes[j])])
        to_new = (distances[i] + distances[j] - distances[i, j]) / 2
        keep = [k for k in range(m) if k not in (i, j)]
        distances = np.block([
            [distances[np.ix_(keep, keep)], to_new[keep][:, None]], [to_new[keep][None, :], np.zeros((1, 1))]
        ])  # fmt: skip
        nodes = [*(nodes[k] for k in keep), new]
    graph.add_edges_from(("top", node) for node in nodes)
    return graph
