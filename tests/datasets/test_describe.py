from pathlib import Path

from badrjax.datasets import dataset_info, list_datasets
from badrjax.datasets.describe import datasets_page

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"


def test_the_page_is_that_of_the_registry():
    assert PAGE.read_text() == datasets_page(), "run: python -m badrjax.datasets.describe > docs/datasets.md"


def test_the_page_names_every_dataset_variant_attribute_and_flaw():
    page = PAGE.read_text()
    for name in list_datasets():
        entry = dataset_info(name)
        section = page[page.index(f"\n## {name}\n") :].split("\n## ")[1]
        assert all(f"| `{variant}` |" in section for variant in entry.variants)
        assert all(f"- `{attribute}`: " in section for attribute in entry.sensitive)
        assert all(flaw.what in section for flaw in entry.flaws)
        assert entry.licence in section
        assert entry.citation in section
