"""The statistics of a repository: pages are fetched side by side, and the second time nothing is asked again."""

from __future__ import annotations

import json
import urllib.request
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from pluperfect import flow, task
from pluperfect.cache_policies import INPUTS, TASK_SOURCE


@task(cache_policy=INPUTS + TASK_SOURCE, cache_expiration=timedelta(hours=1), retries=2)
def get_url(url: str, params: dict[str, Any] | None = None) -> Any:
    query = f"?{urlencode(params)}" if params else ""
    with urllib.request.urlopen(f"{url}{query}", timeout=10) as response:
        return json.load(response)


def get_open_issues(url: str, open_issues_count: int, per_page: int = 100) -> list[Any]:
    pages = range(1, -(open_issues_count // -per_page) + 1)
    issues = [
        get_url.submit(f"{url}/issues", params={"page": page, "per_page": per_page, "state": "open"}) for page in pages
    ]
    return [issue for page in issues for issue in page.result()]


@flow(retries=3, retry_delay_seconds=5, log_prints=True)
def get_repo_info(url: str) -> None:
    repo_stats = get_url(url)
    issues = get_open_issues(url, repo_stats["open_issues_count"])
    issues_per_user = len(issues) / len({issue["user"]["id"] for issue in issues})
    print("demo repository statistics:")
    print(f"Stars: {repo_stats['stargazers_count']}")
    print(f"Forks: {repo_stats['forks_count']}")
    print(f"Average open issues per user: {issues_per_user:.2f}")
