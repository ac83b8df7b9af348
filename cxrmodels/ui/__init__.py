"""What the pages share. The only part of the library that imports Streamlit."""
