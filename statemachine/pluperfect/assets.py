"""Assets: what tasks make outside of this program, and what they make it from."""

from .authoring.assets import Asset, AssetProperties, MaterializingTask, add_asset_metadata, materialize

__all__ = ["Asset", "AssetProperties", "MaterializingTask", "add_asset_metadata", "materialize"]
